//! `spec.metric` and `spec.metrics`: the same settings under two names; the second wins field by field.

use serde::Deserialize;
use std::collections::BTreeMap;

/// Upper bounds of latency histograms in milliseconds, unless a document lists others.
pub const LATENCY_BUCKETS: [i64; 34] = [
    1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 30, 40, 50, 65, 80, 100, 130, 160, 200, 250, 300, 400, 500, 650,
    800, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000,
];

/// What is measured and how finely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    pub enabled: bool,
    pub record_error_codes: bool,
    pub http: Http,
    /// Milliseconds, never empty.
    pub latency_buckets: Vec<i64>,
    /// Rewrites of label values.
    pub rules: Vec<Rule>,
}

/// Labels of the HTTP metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Paths as they are, instead of templates.
    pub increased_cardinality: bool,
    /// The document said so itself; the reference warns where it did not.
    pub cardinality_is_set: bool,
    pub path_matching: Vec<String>,
    pub exclude_verbs: bool,
}

/// Label rewrites of one metric.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// Name of the metric.
    pub name: String,
    pub labels: Vec<Label>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Label {
    pub name: String,
    /// Replacement by pattern.
    pub regex: BTreeMap<String, String>,
}

/// The settings as written; `None` is not written.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    enabled: Option<bool>,
    record_error_codes: Option<bool>,
    http: Option<HttpSpec>,
    latency_distribution_buckets: Option<Vec<i64>>,
    rules: Vec<Rule>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct HttpSpec {
    increased_cardinality: Option<bool>,
    path_matching: Vec<String>,
    exclude_verbs: Option<bool>,
}

impl Spec {
    pub(super) fn overlaid(self, over: Self) -> Metrics {
        let http = over.http.or(self.http).unwrap_or_default();
        let rules = if over.rules.is_empty() {
            self.rules
        } else {
            over.rules
        };
        Metrics {
            enabled: over.enabled.or(self.enabled).unwrap_or(true),
            record_error_codes: over
                .record_error_codes
                .or(self.record_error_codes)
                .unwrap_or(false),
            http: Http {
                increased_cardinality: http.increased_cardinality.unwrap_or(true),
                cardinality_is_set: http.increased_cardinality.is_some(),
                path_matching: http.path_matching,
                exclude_verbs: http.exclude_verbs.unwrap_or(false),
            },
            latency_buckets: over
                .latency_distribution_buckets
                .or(self.latency_distribution_buckets)
                .filter(|buckets| !buckets.is_empty())
                .unwrap_or_else(|| LATENCY_BUCKETS.to_vec()),
            rules,
        }
    }
}
