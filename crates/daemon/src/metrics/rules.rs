//! Rewriting of label values by regular expressions from the configuration (`spec.metrics.rules`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use regex::Regex;

/// One rule: for a metric's name, what to do with some of its labels.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// As exported or as declared: `dapr_http_server_request_count` and `http/server/request_count` mean the same.
    pub name: String,
    pub labels: Vec<RuleLabel>,
}

/// Replacements in the values of one label.
#[derive(Clone, Debug, Default)]
pub struct RuleLabel {
    pub name: String,
    /// Replacement text (`$1` is the first group) by pattern; applied in this order, each to the result of the last.
    pub replacements: Vec<(String, String)>,
}

/// A pattern that does not parse.
#[derive(Debug, thiserror::Error)]
#[error("metrics rule for label \"{label}\" of \"{metric}\": {source}")]
pub struct RuleError {
    pub metric: String,
    pub label: String,
    pub source: regex::Error,
}

/// All rules, by metric and label.
#[derive(Default)]
pub(super) struct Rules(BTreeMap<(String, String), Rewrite>);

/// The replacements for one label.
#[derive(Clone, Default)]
pub(super) struct Rewrite(Vec<(Regex, String)>);

impl Rules {
    pub(super) fn compile(rules: &[Rule]) -> Result<Self, RuleError> {
        let mut compiled = BTreeMap::new();
        for rule in rules {
            for label in &rule.labels {
                let pairs = label.replacements.iter().map(|(pattern, replacement)| {
                    Regex::new(pattern)
                        .map(|regex| (regex, replacement.clone()))
                        .map_err(|source| RuleError {
                            metric: rule.name.clone(),
                            label: label.name.clone(),
                            source,
                        })
                });
                let rewrite = Rewrite(pairs.collect::<Result<_, _>>()?);
                // COMPAT(pkg/diagnostics/utils CreateRulesMap): the last rule for a label wins.
                compiled.insert((canonical(&rule.name), label.name.clone()), rewrite);
            }
        }
        Ok(Self(compiled))
    }

    /// The rules for a metric's labels, or `None` if it has none, which spares it from looking.
    pub(super) fn of<const N: usize>(&self, metric: &str, labels: [&str; N]) -> Option<[Rewrite; N]> {
        let metric = canonical(metric);
        let rules = labels.map(|label| {
            self.0
                .get(&(metric.clone(), label.to_owned()))
                .cloned()
                .unwrap_or_default()
        });
        rules.iter().any(|rule| !rule.0.is_empty()).then_some(rules)
    }
}

impl Rewrite {
    pub(super) fn apply(&self, value: &mut Cow<'_, str>) {
        // COMPAT(pkg/diagnostics/utils WithTags): an empty value stays empty whatever the pattern.
        if value.is_empty() {
            return;
        }
        for (regex, replacement) in &self.0 {
            if let Cow::Owned(replaced) = regex.replace_all(value, replacement.as_str()) {
                *value = Cow::Owned(replaced);
            }
        }
    }
}

fn canonical(name: &str) -> String {
    let name = name.strip_prefix("dapr_").unwrap_or(name);
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '/' })
        .collect()
}
