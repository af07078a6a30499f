//! Which traces are recorded.

use std::fmt::{self, Display};

use super::Context;
use crate::metrics::text;

/// Follows the parent's decision; for new traces, a ratio of the trace ids.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampler {
    ratio: f64,
    /// New traces are sampled when the upper 63 bits of the id's lower half are below this.
    threshold: u64,
}

/// COMPAT(pkg/diagnostics/utils): the ratio when the text is missing or no number.
const DEFAULT_RATIO: f64 = 1e-4;

impl Sampler {
    /// From `samplingRate` as written.
    pub fn parse(rate: Option<&str>) -> Self {
        let ratio = rate.and_then(|rate| rate.parse().ok()).unwrap_or(DEFAULT_RATIO);
        let ratio = if ratio > 0.0 { ratio } else { 0.0 };
        // Float to integer conversion saturates.
        Self {
            ratio,
            threshold: (ratio * (1_u64 << 63) as f64) as u64,
        }
    }

    /// Whether a span is to be recorded.
    pub fn samples(&self, trace_id: u128, parent: Option<&Context>) -> bool {
        match parent {
            Some(parent) => parent.sampled(),
            // COMPAT(OpenTelemetry TraceIDRatioBased): services with the same ratio agree about a trace.
            None => self.ratio >= 1.0 || (lower_half(trace_id) >> 1) < self.threshold,
        }
    }

    /// Whether new traces are never sampled.
    pub fn is_off(&self) -> bool {
        self.ratio == 0.0
    }
}

impl Display for Sampler {
    /// COMPAT(OpenTelemetry): the text that the integration suite waits for in the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParentBased{root:")?;
        if self.ratio >= 1.0 {
            f.write_str("AlwaysOnSampler")?;
        } else {
            write!(f, "TraceIDRatioBased{{{}}}", text::float(self.ratio))?;
        }
        f.write_str(
            ",remoteParentSampled:AlwaysOnSampler,remoteParentNotSampled:AlwaysOffSampler,\
             localParentSampled:AlwaysOnSampler,localParentNotSampled:AlwaysOffSampler}",
        )
    }
}

fn lower_half(id: u128) -> u64 {
    u64::try_from(id & u128::from(u64::MAX)).expect("masked to 64 bits")
}
