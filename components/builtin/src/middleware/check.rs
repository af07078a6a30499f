//! `middleware.http.routerchecker`: only requests whose path and query match an expression pass.
//!
//! COMPAT(components-contrib middleware/http/routerchecker): 400 `invalid router`. The expression matches anywhere unless it is
//! anchored.

use http::StatusCode;
use outrigger_component::Component;
use outrigger_component::error::{Error, Result};
use outrigger_component::middleware::{HttpMiddleware, Next, Request, Response, answer};
use outrigger_component::options::{Opt, REQUIRED, opt};
use outrigger_component::setup::Setup;
use regex::Regex;

/// What can be written under its `metadata`.
pub(crate) const OPTIONS: &[Opt] = &[opt(
    "rule",
    REQUIRED,
    "regular expression; anchor it with `^` and `$`",
)];

#[derive(Debug, serde::Deserialize)]
pub struct Config {
    #[serde(default)]
    pub rule: String,
}

pub struct Check {
    rule: Regex,
}

impl Check {
    /// # Errors
    /// `Invalid` for a rule that is no expression.
    pub async fn build(setup: Setup<Config>) -> Result<Self> {
        let rule = Regex::new(&setup.config.rule)
            .map_err(|error| Error::invalid(format!("failed to compile rule regexp: {error}")))?;
        Ok(Self { rule })
    }
}

impl Component for Check {}

#[async_trait::async_trait]
impl HttpMiddleware for Check {
    async fn handle(&self, request: Request, next: Next<'_>) -> Response {
        let target = request
            .uri()
            .path_and_query()
            .map_or("/", |target| target.as_str());
        if self.rule.is_match(target) {
            next.serve(request).await
        } else {
            answer(StatusCode::BAD_REQUEST, "invalid router")
        }
    }
}
