//! When a closed circuit breaker opens.

use super::breaker::Counts;
use std::fmt;

/// A CEL expression over the counts, or the default: more than 5 consecutive failures.
#[derive(Default)]
pub struct Trip(Option<Expression>);

struct Expression {
    source: String,
    program: cel::parser::Expression,
}

/// Most words and signs in an expression, and most levels of brackets. The evaluator recurses for every operator of a
/// chain, the parser for every bracket; both use so much stack that a long expression would end the process. Breakers
/// need a dozen. (The library's other parser, ANTLR, overflows at 14 parentheses.)
const MAX_TOKENS: usize = 80;
const MAX_DEPTH: u16 = 32;

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
        let wrong = |message| Error {
            source_text: source.chars().take(80).collect(),
            message,
        };
        if tokens(source) > MAX_TOKENS {
            return Err(wrong(format!("it has more than {MAX_TOKENS} words and signs")));
        }
        let program = cel::parser::PrattParser::new()
            .max_recursion_depth(MAX_DEPTH)
            .parse(source)
            .map_err(|errors| wrong(errors.to_string()))?;
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
        matches!(context.resolve(&expression.program), Ok(cel::Value::Bool(true)))
    }
}

/// Words and signs; an upper bound of what the parser sees.
fn tokens(source: &str) -> usize {
    let mut in_word = false;
    let mut count = 0;
    for c in source.chars() {
        let is_word = c.is_alphanumeric() || c == '_';
        let continues = is_word && in_word;
        if !continues && !c.is_whitespace() {
            count += 1;
        }
        in_word = is_word;
    }
    count
}

/// The condition as it is written in documents.
impl fmt::Display for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Some(expression) => &expression.source,
            None => "consecutiveFailures > 5",
        })
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
