//! HTTP middlewares that ask somebody: who issued a token, who gives one.

pub mod bearer;
pub mod client_credentials;
pub mod login;
#[cfg(test)]
mod testing;
mod token;

use outrigger_component::error::{Error, Result};
use regex::Regex;

/// Which paths a middleware is for; `None` is all.
fn filter(expression: &str) -> Result<Option<Regex>> {
    if expression.is_empty() {
        return Ok(None);
    }
    Regex::new(expression).map(Some).map_err(|error| {
        Error::invalid(format!(
            "metadata \"pathFilter\" is no regular expression: {error}"
        ))
    })
}
