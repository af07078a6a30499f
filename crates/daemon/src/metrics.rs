//! Counters, gauges and histograms, exposed as Prometheus text the way the reference exposes its own.
//!
//! A [`Registry`] is a value with the labels that all of its series carry. Families are declared on it once, with their
//! label names; [`Family::with`] yields the series for a set of label values, which a hot path may keep. Recording
//! is one or two atomic operations; finding a series takes one hash and no lock or allocation.
//!
//! INVARIANT: memory is bounded whatever peers send. A family holds at most [`Settings::series_limit`] series; values
//! beyond share one series whose free-form labels read `other`.
//!
//! COMPAT(pkg/diagnostics, OpenCensus exporter): names are `dapr_` plus the declared name with everything but letters and
//! digits as `_`; labels are sorted, empty ones kept; counters get no `_total` suffix; families without series are
//! not shown.
//!
//! The families themselves, with their label names, are in the modules below, one per subject.

mod component;
mod family;
mod grpc;
mod histogram;
mod http;
mod invocation;
mod paths;
mod process;
mod resiliency;
mod rules;
mod runtime;
mod serve;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod text;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use self::component::{Component, Ingress, ProcessStatus};
use self::family::Timed;
pub use self::family::{Family, Label};
pub use self::grpc::Grpc;
pub use self::histogram::{Buckets, Histogram};
pub use self::http::{Http, HttpConfig};
pub use self::invocation::{Access, Answer, Invocation, Shape};
pub use self::paths::PathError;
pub use self::process::process;
pub use self::resiliency::{Applied, Direction, Policy, Resiliency};
use self::rules::Rules;
pub use self::rules::{Rule, RuleError, RuleLabel};
pub use self::runtime::{Errors, Loading};
pub use self::serve::serve;
use self::table::Table;

/// What a registry is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// First part of every name, `dapr` as a rule.
    pub namespace: String,
    /// Labels that every series carries, `app_id` for a sidecar.
    pub constants: Vec<(&'static str, String)>,
    /// Bounds for latencies, in milliseconds.
    pub latency: Buckets,
    /// Rewriting of label values.
    pub rules: Vec<Rule>,
    /// Most series of one family.
    pub series_limit: usize,
}

impl Settings {
    /// The settings of a sidecar, without rules.
    pub fn sidecar(app_id: &str) -> Self {
        Self {
            namespace: "dapr".to_owned(),
            constants: vec![("app_id", app_id.to_owned())],
            latency: Buckets::milliseconds(),
            rules: Vec::new(),
            series_limit: 1000,
        }
    }
}

/// A set of families. Clones share it.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
    constants: Vec<(&'static str, String)>,
}

struct Shared {
    namespace: String,
    latency: Buckets,
    rules: Rules,
    series_limit: usize,
    families: Mutex<BTreeMap<String, Arc<dyn Expose>>>,
}

/// Something that can write itself as Prometheus text.
trait Expose: Send + Sync {
    fn expose(&self, out: &mut String);
}

/// A kind of series.
pub trait Metric: Send + Sync + 'static {
    /// What a new series needs to know.
    type Spec: Clone + Send + Sync + 'static;
    /// The word after `# TYPE`.
    const KIND: &'static str;

    fn new(spec: &Self::Spec) -> Self;
    /// Appends the series' lines. `labels` are rendered, without braces; empty when there are none.
    fn expose(&self, name: &str, labels: &str, out: &mut String);
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// A number that is what it is at present.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Registry {
    /// # Errors
    /// A rule whose pattern is not a regular expression.
    pub fn new(settings: Settings) -> Result<Self, RuleError> {
        Ok(Self {
            constants: settings.constants,
            shared: Arc::new(Shared {
                namespace: settings.namespace,
                latency: settings.latency,
                rules: Rules::compile(&settings.rules)?,
                series_limit: settings.series_limit,
                families: Mutex::default(),
            }),
        })
    }

    /// The same registry; families declared through the result carry one more label with a fixed value.
    pub fn labelled(&self, name: &'static str, value: &str) -> Self {
        let mut registry = self.clone();
        registry.constants.push((name, value.to_owned()));
        registry
    }

    /// Declares a counter.
    ///
    /// # Panics
    /// If the name is taken, as do all declarations: two owners of one family would be a mistake in our code.
    pub fn counter<const N: usize>(&self, name: &str, help: &str, labels: [Label; N]) -> Family<Counter, N> {
        self.family(name, help, labels, ())
    }

    /// Declares a gauge.
    pub fn gauge<const N: usize>(&self, name: &str, help: &str, labels: [Label; N]) -> Family<Gauge, N> {
        self.family(name, help, labels, ())
    }

    /// Declares a histogram over bounds of its own.
    pub fn histogram<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [Label; N],
        buckets: Buckets,
    ) -> Family<Histogram, N> {
        self.family(name, help, labels, buckets)
    }

    /// Declares a histogram of milliseconds over the bounds in [`Settings::latency`].
    pub fn latency<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [Label; N],
    ) -> Family<Histogram, N> {
        self.family(name, help, labels, self.shared.latency.clone())
    }

    /// The exposition: all families that have a series, by name.
    pub fn expose(&self) -> String {
        let families: Vec<_> = self.families().values().cloned().collect();
        let mut out = String::with_capacity(16 << 10);
        for family in families {
            family.expose(&mut out);
        }
        out
    }

    /// A table of what belongs to label values, with this registry's bound.
    fn table<V, const N: usize>(&self, labels: [Label; N]) -> Table<V, N> {
        Table::new(self.shared.series_limit, labels.map(|label| label.open))
    }

    fn family<M: Metric, const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [Label; N],
        spec: M::Spec,
    ) -> Family<M, N> {
        let exported = text::name(&self.shared.namespace, name);
        let family = Family::new(family::Declaration {
            name: exported.clone(),
            help: help.to_owned(),
            labels,
            constants: self.constants.clone(),
            rules: self.shared.rules.of(name, labels.map(|label| label.name)),
            limit: self.shared.series_limit,
            spec,
        });
        self.add(&exported, family.exposer());
        family
    }

    fn add(&self, name: &str, family: Arc<dyn Expose>) {
        let before = self.families().insert(name.to_owned(), family);
        assert!(before.is_none(), "metric \"{name}\" is declared twice");
    }

    fn families(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<dyn Expose>>> {
        self.shared
            .families
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counter {
    pub fn increment(&self) {
        self.add(1);
    }

    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Metric for Counter {
    type Spec = ();
    const KIND: &'static str = "counter";

    fn new((): &()) -> Self {
        Self::default()
    }

    fn expose(&self, name: &str, labels: &str, out: &mut String) {
        text::sample(out, name, "", labels, "", self.value());
    }
}

impl Gauge {
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds; a negative number subtracts.
    pub fn add(&self, change: i64) {
        self.0.fetch_add(change, Ordering::Relaxed);
    }

    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Metric for Gauge {
    type Spec = ();
    const KIND: &'static str = "gauge";

    fn new((): &()) -> Self {
        Self::default()
    }

    fn expose(&self, name: &str, labels: &str, out: &mut String) {
        text::sample(out, name, "", labels, "", self.value());
    }
}
