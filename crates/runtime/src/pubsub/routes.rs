//! From an event to a route of the app: the first rule whose expression is true.
//!
//! Expressions are compiled once, when the subscription starts. An event is parsed into values only if the first rule
//! does not match everything. COMPAT(pkg/expr, pkg/runtime/subscription): `event` is the whole envelope, its
//! numbers are doubles; an expression that fails, or is not a truth value, fails the event.

use cel::objects::Map;
use cel::{Context, Env, ExecutionError, Program, Value};
use outrigger_channel::app::Rule;
use std::collections::HashMap;
use std::sync::Arc;

/// What an expression may hold: parser and interpreter are recursive, and an app's expression must not be able to
/// exhaust our stack. Counted over the raw text, strings included.
const MOST_OPERATORS: usize = 512;
const DEEPEST: usize = 48;

pub(super) struct Routes {
    routes: Vec<Route>,
    /// Only with expressions.
    env: Option<Arc<Env>>,
}

struct Route {
    /// With its text.
    condition: Option<(Program, String)>,
    path: String,
}

/// The expression of a rule cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[error("route expression {expression:?} is not valid CEL: {reason}")]
pub(super) struct Invalid {
    expression: String,
    reason: String,
}

/// An event's route could not be decided.
#[derive(Debug, thiserror::Error)]
pub(super) enum Undecided {
    #[error("{0}")]
    Event(#[from] serde_json::Error),
    #[error("{0}")]
    Evaluation(#[from] ExecutionError),
    #[error("the result of match expression {0} was not a boolean")]
    NotBoolean(String),
}

impl Routes {
    pub(super) fn compile(rules: &[Rule]) -> Result<Self, Invalid> {
        let mut env = None;
        let routes = rules
            .iter()
            .map(|rule| {
                let text = rule.expression.trim();
                let condition = if text.is_empty() {
                    None
                } else {
                    let env = env.get_or_insert_with(|| Arc::new(Env::stdlib()));
                    Some((compile(env, text)?, text.to_owned()))
                };
                Ok(Route { condition, path: rule.path.clone() })
            })
            .collect::<Result<_, Invalid>>()?;
        Ok(Self { routes, env })
    }

    /// The path for an event; `None` when no rule matches.
    pub(super) fn pick(&self, envelope: &[u8]) -> Result<Option<&str>, Undecided> {
        // The common case, without looking into the event.
        match self.routes.first() {
            None => return Ok(None),
            Some(Route { condition: None, path }) => return Ok(Some(path)),
            Some(_) => {}
        }
        let mut context = self.env.as_ref().map_or_else(Context::default, |env| Context::with_env(Arc::clone(env)));
        context.add_variable_from_value("event", value(serde_json::from_slice(envelope)?));
        for Route { condition, path } in &self.routes {
            let Some((program, text)) = condition else { return Ok(Some(path)) };
            match program.execute(&context)? {
                Value::Bool(true) => return Ok(Some(path)),
                Value::Bool(false) => {}
                _ => return Err(Undecided::NotBoolean(text.clone())),
            }
        }
        Ok(None)
    }
}

fn compile(env: &Env, expression: &str) -> Result<Program, Invalid> {
    let invalid = |reason: String| Invalid { expression: expression.to_owned(), reason };
    let (operators, depth) = extent(expression);
    if operators > MOST_OPERATORS || depth > DEEPEST {
        return Err(invalid(format!(
            "at most {MOST_OPERATORS} operators and {DEEPEST} levels of brackets are supported"
        )));
    }
    env.compile(expression).map_err(|errors| invalid(errors.to_string()))
}

/// Upper bounds of the operators and of the depth of brackets.
fn extent(expression: &str) -> (usize, usize) {
    let (mut operators, mut depth, mut deepest) = (0_usize, 0_usize, 0);
    for byte in expression.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
        operators += usize::from(byte.is_ascii_punctuation() && !matches!(byte, b'_' | b'\'' | b'"' | b'=' | b','));
    }
    (operators, deepest)
}

fn value(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(truth) => Value::Bool(truth),
        serde_json::Value::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Value::String(Arc::new(text)),
        serde_json::Value::Array(items) => Value::List(Arc::new(items.into_iter().map(value).collect())),
        serde_json::Value::Object(members) => Value::Map(Map {
            map: Arc::new(
                members
                    .into_iter()
                    .map(|(name, member)| (name.into(), value(member)))
                    .collect::<HashMap<_, _>>(),
            ),
        }),
    }
}

#[cfg(test)]
mod tests;
