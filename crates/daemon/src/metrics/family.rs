//! A family: one name, a fixed list of label names, a series per set of label values.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::rules::Rewrite;
use super::table::Table;
use super::{Counter, Expose, Histogram, Metric, text};

/// The name of a label, and whether its values come from outside.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    pub(super) name: &'static str,
    pub(super) open: bool,
}

impl Label {
    /// Values from a small set that our code knows: a method, a status, an operation.
    pub const fn closed(name: &'static str) -> Self {
        Self { name, open: false }
    }

    /// Any value: a path, a topic, a component's name. Reads `other` once the family is full.
    pub const fn open(name: &'static str) -> Self {
        Self { name, open: true }
    }
}

/// The series of one name. Clones share them.
pub struct Family<M: Metric, const N: usize> {
    shared: Arc<Shared<M, N>>,
}

/// All that is known when a family is declared.
pub(super) struct Declaration<M: Metric, const N: usize> {
    pub(super) name: String,
    pub(super) help: String,
    pub(super) labels: [Label; N],
    pub(super) constants: Vec<(&'static str, String)>,
    pub(super) rules: Option<[Rewrite; N]>,
    pub(super) limit: usize,
    pub(super) spec: M::Spec,
}

struct Shared<M: Metric, const N: usize> {
    declaration: Declaration<M, N>,
    series: Table<Series<M>, N>,
}

struct Series<M> {
    /// Rendered once, constants included.
    labels: Box<str>,
    metric: Arc<M>,
}

/// A count and a latency over the same labels, found with one look.
pub(super) struct Timed<const N: usize> {
    count: Family<Counter, N>,
    latency: Family<Histogram, N>,
    pairs: Table<(Arc<Counter>, Arc<Histogram>), N>,
}

impl<const N: usize> Timed<N> {
    pub(super) fn new(count: Family<Counter, N>, latency: Family<Histogram, N>) -> Self {
        let declaration = &count.shared.declaration;
        let pairs = Table::new(declaration.limit, declaration.labels.map(|label| label.open));
        Self {
            count,
            latency,
            pairs,
        }
    }

    /// Counts one event and how long it took.
    pub(super) fn record(&self, labels: [&str; N], elapsed: Duration) {
        if self.count.has_rules() || self.latency.has_rules() {
            // Rules may fold many values into one: counting the values before them would fill the table early.
            self.count.with(labels).increment();
            self.latency.with(labels).observe_duration(elapsed);
            return;
        }
        self.pairs.with(
            labels,
            |labels| (self.count.with(labels), self.latency.with(labels)),
            |(count, latency)| {
                count.increment();
                latency.observe_duration(elapsed);
            },
        );
    }

    /// Counts one event that was not timed.
    pub(super) fn count(&self, labels: [&str; N]) {
        self.count.with(labels).increment();
    }
}

impl<M: Metric, const N: usize> Family<M, N> {
    pub(super) fn new(declaration: Declaration<M, N>) -> Self {
        let series = Table::new(declaration.limit, declaration.labels.map(|label| label.open));
        Self {
            shared: Arc::new(Shared { declaration, series }),
        }
    }

    pub(super) fn exposer(&self) -> Arc<dyn Expose> {
        Arc::clone(&self.shared) as Arc<dyn Expose>
    }

    /// The series for these values, in the order the labels were declared. Worth keeping where the values repeat.
    pub fn with(&self, values: [&str; N]) -> Arc<M> {
        let Some(rules) = &self.shared.declaration.rules else {
            return self.shared.series(values);
        };
        let mut rewritten = values.map(Cow::Borrowed);
        for (value, rule) in rewritten.iter_mut().zip(rules) {
            rule.apply(value);
        }
        self.shared.series(std::array::from_fn(|i| &*rewritten[i]))
    }

    /// Whether label values are rewritten by rules from the configuration.
    pub(super) fn has_rules(&self) -> bool {
        self.shared.declaration.rules.is_some()
    }
}

impl<M: Metric, const N: usize> Clone for Family<M, N> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<M: Metric, const N: usize> Shared<M, N> {
    fn series(&self, values: [&str; N]) -> Arc<M> {
        self.series.with(
            values,
            |values| Series {
                labels: self.labels(values).into_boxed_str(),
                metric: Arc::new(M::new(&self.declaration.spec)),
            },
            |series| Arc::clone(&series.metric),
        )
    }

    fn labels(&self, values: [&str; N]) -> String {
        let own = &self.declaration.labels;
        // A family may have a label of its own where others carry the constant (access control's `app_id`).
        let constants = self
            .declaration
            .constants
            .iter()
            .filter(|(name, _)| own.iter().all(|label| label.name != *name))
            .map(|(name, value)| (*name, value.as_str()));
        text::labels(constants.chain(own.iter().map(|label| label.name).zip(values)))
    }
}

impl<M: Metric, const N: usize> Expose for Shared<M, N> {
    fn expose(&self, out: &mut String) {
        let mut series = self.series.entries();
        if series.is_empty() {
            return;
        }
        series.sort_by(|a, b| a.value.labels.cmp(&b.value.labels));
        let name = &self.declaration.name;
        text::header(out, name, &self.declaration.help, M::KIND);
        for entry in series {
            entry.value.metric.expose(name, &entry.value.labels, out);
        }
    }
}
