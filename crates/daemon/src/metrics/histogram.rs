//! Histograms with fixed bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Metric, text};

/// The bounds of a histogram's buckets, and the resolution of its sum.
#[derive(Clone, Debug)]
pub struct Buckets {
    /// Ascending upper bounds; the last bucket has none.
    bounds: Arc<[f64]>,
    /// `le="…"` of each bucket, the unbounded one included.
    rendered: Arc<[String]>,
    /// Parts of a unit that the sum counts in: a sum of integers needs one atomic addition, not a loop.
    resolution: f64,
}

/// How many observations fell into which bucket, and their sum.
#[derive(Debug)]
pub struct Histogram {
    buckets: Buckets,
    counts: Box<[AtomicU64]>,
    /// In units of one `resolution`-th.
    sum: AtomicU64,
}

const NANOSECONDS_PER_MILLISECOND: f64 = 1e6;

/// COMPAT(pkg/config GetLatencyDistribution): the default bounds, in milliseconds.
const MILLISECONDS: [f64; 34] = [
    1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 13.0, 16.0, 20.0, 25.0, 30.0, 40.0, 50.0, 65.0, 80.0, 100.0,
    130.0, 160.0, 200.0, 250.0, 300.0, 400.0, 500.0, 650.0, 800.0, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5,
];

/// COMPAT(pkg/diagnostics defaultSizeDistribution): 1 KiB to 4 GiB.
const BYTES: [f64; 13] = [
    1024.0,
    2048.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
];

impl Buckets {
    /// The default bounds for latencies.
    pub fn milliseconds() -> Self {
        Self::new(&MILLISECONDS, NANOSECONDS_PER_MILLISECOND)
    }

    /// Bounds for latencies from the configuration (`latencyDistributionBuckets`), in milliseconds. None given
    /// means the defaults; the order does not matter.
    pub fn milliseconds_at(bounds: &[u32]) -> Self {
        if bounds.is_empty() {
            return Self::milliseconds();
        }
        let mut bounds: Vec<f64> = bounds.iter().copied().map(f64::from).collect();
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        Self::new(&bounds, NANOSECONDS_PER_MILLISECOND)
    }

    /// Bounds for sizes.
    pub fn bytes() -> Self {
        Self::new(&BYTES, 1.0)
    }

    /// Bounds of another kind, ascending. Sums are exact to one part in a million.
    pub fn of(bounds: &[f64]) -> Self {
        Self::new(bounds, 1e6)
    }

    fn new(bounds: &[f64], resolution: f64) -> Self {
        let rendered = bounds
            .iter()
            .copied()
            .chain([f64::INFINITY])
            .map(|b| format!("le=\"{}\"", text::float(b)));
        Self {
            bounds: bounds.into(),
            rendered: rendered.collect(),
            resolution,
        }
    }
}

impl Histogram {
    /// Records a value in the histogram's unit; negative ones count as zero.
    pub fn observe(&self, value: f64) {
        // A float converts saturating: no value can wrap.
        self.record(value, (value * self.buckets.resolution).round() as u64);
    }

    /// Records a size or count. Meant for histograms of whole numbers.
    pub fn observe_count(&self, value: u64) {
        self.observe(value as f64);
    }

    /// Records a duration in milliseconds, fractions included. Meant for latency histograms.
    pub fn observe_duration(&self, elapsed: Duration) {
        let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.record(nanoseconds as f64 / NANOSECONDS_PER_MILLISECOND, nanoseconds);
    }

    fn record(&self, value: f64, parts: u64) {
        let bucket = self.buckets.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(parts, Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// In the histogram's unit.
    pub fn sum(&self) -> f64 {
        self.sum.load(Ordering::Relaxed) as f64 / self.buckets.resolution
    }
}

impl Metric for Histogram {
    type Spec = Buckets;
    const KIND: &'static str = "histogram";

    fn new(buckets: &Buckets) -> Self {
        Self {
            counts: buckets.rendered.iter().map(|_| AtomicU64::new(0)).collect(),
            buckets: buckets.clone(),
            sum: AtomicU64::new(0),
        }
    }

    fn expose(&self, name: &str, labels: &str, out: &mut String) {
        let mut total = 0;
        for (count, le) in self.counts.iter().zip(self.buckets.rendered.iter()) {
            total += count.load(Ordering::Relaxed);
            text::sample(out, name, "_bucket", labels, le, total);
        }
        text::sample(out, name, "_sum", labels, "", text::float(self.sum()));
        text::sample(out, name, "_count", labels, "", total);
    }
}
