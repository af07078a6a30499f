//! From an event to a route of the app: the first rule whose expression is true.
//!
//! Expressions are compiled once, when the subscription starts. An event is parsed into values only if the first rule
//! does not match everything. COMPAT(pkg/expr, pkg/runtime/subscription): `event` is the whole envelope, its
//! numbers are doubles; an expression that fails, or is not a truth value, fails the event.

use cel::common::ast::{EntryExpr, Expr};
use cel::objects::Map;
use cel::{Context, Env, ExecutionError, IdedExpr as Expression, Program, Value};
use outrigger_channel::app::Rule;
use std::collections::HashMap;
use std::sync::Arc;

/// What an expression may hold. Parser and interpreter are recursive, some 100 KB a level at worst, and what an app
/// sends must not be able to exhaust a stack. Operators and brackets are counted over the raw text, strings included.
const MOST_OPERATORS: usize = 512;
const MOST_BRACKETS: usize = 32;
/// Levels of the parsed expression; what [`Routes::pick`] descends on the stack of a worker.
const DEEPEST: usize = 32;
/// For compiling, which happens on a thread of its own. Only what is touched costs memory.
const STACK: usize = 64 << 20;

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
        let expressions: Vec<&str> = rules.iter().map(|rule| rule.expression.trim()).collect();
        let (env, programs) = if expressions.iter().all(|expression| expression.is_empty()) {
            (None, expressions.iter().map(|_| None).collect())
        } else {
            let env = Env::stdlib();
            let programs = with_stack(|| {
                let program = |text: &&str| (!text.is_empty()).then(|| compile(&env, text)).transpose();
                expressions.iter().map(program).collect::<Result<Vec<_>, _>>()
            })?;
            (Some(Arc::new(env)), programs)
        };
        let route = |(rule, program): (&Rule, Option<Program>)| Route {
            condition: program.map(|program| (program, rule.expression.trim().to_owned())),
            path: rule.path.clone(),
        };
        let routes = rules.iter().zip(programs).map(route).collect();
        Ok(Self { routes, env })
    }

    /// Whether [`Routes::pick`] looks into the event at all.
    pub(super) fn look(&self) -> bool {
        self.routes.first().is_some_and(|route| route.condition.is_some())
    }

    /// The path for an event; `None` when no rule matches.
    pub(super) fn pick(&self, envelope: &[u8]) -> Result<Option<&str>, Undecided> {
        // The common case, without looking into the event.
        match self.routes.first() {
            None => return Ok(None),
            Some(Route {
                condition: None,
                path,
            }) => return Ok(Some(path)),
            Some(_) => {}
        }
        let mut context = self
            .env
            .as_ref()
            .map_or_else(Context::default, |env| Context::with_env(Arc::clone(env)));
        context.add_variable_from_value("event", value(serde_json::from_slice(envelope)?));
        for Route { condition, path } in &self.routes {
            let Some((program, text)) = condition else {
                return Ok(Some(path));
            };
            match program.execute(&context)? {
                Value::Bool(true) => return Ok(Some(path)),
                Value::Bool(false) => {}
                _ => return Err(Undecided::NotBoolean(text.clone())),
            }
        }
        Ok(None)
    }
}

/// Runs on a thread with a stack that is large enough for everything that [`compile`] lets through.
fn with_stack<T: Send>(work: impl FnOnce() -> Result<T, Invalid> + Send) -> Result<T, Invalid> {
    let failed = |reason: &str| Invalid {
        expression: String::new(),
        reason: reason.to_owned(),
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("cel".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, work);
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_panic)) => Err(failed("the parser gave up")),
            Err(error) => Err(failed(&format!("no thread to parse it: {error}"))),
        }
    })
}

fn compile(env: &Env, expression: &str) -> Result<Program, Invalid> {
    let invalid = |reason: String| Invalid {
        expression: expression.to_owned(),
        reason,
    };
    let (operators, brackets) = extent(expression);
    if operators > MOST_OPERATORS || brackets > MOST_BRACKETS {
        return Err(invalid(format!(
            "at most {MOST_OPERATORS} operators and {MOST_BRACKETS} levels of brackets are supported"
        )));
    }
    let program = env
        .compile(expression)
        .map_err(|errors| invalid(errors.to_string()))?;
    if depth(program.expression()) > DEEPEST {
        return Err(invalid(format!("nested deeper than {DEEPEST} levels")));
    }
    Ok(program)
}

/// Upper bounds of the operators and of the depth of brackets.
fn extent(expression: &str) -> (usize, usize) {
    let (mut operators, mut open, mut brackets) = (0_usize, 0_usize, 0);
    for byte in expression.bytes() {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        brackets = brackets.max(open);
        operators +=
            usize::from(byte.is_ascii_punctuation() && !matches!(byte, b'_' | b'\'' | b'"' | b'=' | b','));
    }
    (operators, brackets)
}

/// Levels of calls, lists, maps and loops. A chain of members (`a.b.c`) counts as one.
fn depth(expression: &Expression) -> usize {
    fn entry(entry: &EntryExpr) -> usize {
        match entry {
            EntryExpr::StructField(field) => depth(&field.value),
            EntryExpr::MapEntry(entry) => depth(&entry.key).max(depth(&entry.value)),
        }
    }
    let deepest = |expressions: &[Expression]| expressions.iter().map(depth).max().unwrap_or(0);
    let below = match &expression.expr {
        Expr::Select(select) => return depth(&select.operand),
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => 0,
        Expr::Call(call) => call.target.as_deref().map_or(0, depth).max(deepest(&call.args)),
        Expr::List(list) => deepest(&list.elements),
        Expr::Map(map) => map.entries.iter().map(|it| entry(&it.expr)).max().unwrap_or(0),
        Expr::Struct(of) => of.entries.iter().map(|it| entry(&it.expr)).max().unwrap_or(0),
        Expr::Comprehension(of) => [
            &of.iter_range,
            &of.accu_init,
            &of.loop_cond,
            &of.loop_step,
            &of.result,
        ]
        .into_iter()
        .map(depth)
        .max()
        .unwrap_or(0),
    };
    below + 1
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
