//! When a closed circuit breaker opens.

use super::breaker::Counts;
use std::fmt;

/// A CEL expression over the counts, or the default: more than 5 consecutive failures.
#[derive(Default)]
pub struct Trip(Option<Expression>);

struct Expression {
    source: String,
    program: cel::Program,
}

/// An expression that is not CEL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("trip expression {source_text:?} is not valid: {message}; write for example consecutiveFailures > 5")]
pub struct Error {
    pub source_text: String,
    pub message: String,
}

impl Trip {
    /// An empty text is the default.
    pub fn compile(source: &str) -> Result<Self, Error> {
        if source.is_empty() {
            return Ok(Self(None));
        }
        let program = cel::Program::compile(source).map_err(|errors| Error {
            source_text: source.to_owned(),
            message: errors.to_string(),
        })?;
        Ok(Self(Some(Expression {
            source: source.to_owned(),
            program,
        })))
    }

    /// Whether to open. An expression that cannot be evaluated, or is not a boolean, does not open.
    pub fn trips(&self, counts: &Counts) -> bool {
        let Some(expression) = &self.0 else {
            return counts.consecutive_failures > 5;
        };
        let mut context = cel::Context::default();
        for (name, value) in [
            ("requests", counts.requests),
            ("totalSuccesses", counts.total_successes),
            ("totalFailures", counts.total_failures),
            ("consecutiveSuccesses", counts.consecutive_successes),
            ("consecutiveFailures", counts.consecutive_failures),
        ] {
            context.add_variable_from_value(name, cel::Value::Int(i64::from(value)));
        }
        matches!(expression.program.execute(&context), Ok(cel::Value::Bool(true)))
    }
}

impl fmt::Debug for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(expression) => write!(f, "Trip({:?})", expression.source),
            None => f.write_str("Trip(default)"),
        }
    }
}
