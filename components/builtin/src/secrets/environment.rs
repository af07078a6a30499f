//! `secretstores.local.env`: environment variables as secrets. The environment is handed in; nothing here reads the
//! process's own.
//!
//! COMPAT(components-contrib secretstores/local/env): a variable that is not set is an empty secret, not an error, and
//! so is one that is the sidecar's own (`APP_API_TOKEN`, `DAPR_*`).

#[cfg(test)]
mod tests;

use outrigger_component::Component;
use outrigger_component::error::Result;
use outrigger_component::metadata::Metadata;
use outrigger_component::options::{NONE, Opt, opt};
use outrigger_component::secret::{Features, Secret, SecretStore};
use outrigger_component::setup::Setup;
use outrigger_daemon::log::Log;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The value of one variable.
pub type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;
/// Names and values of all variables.
pub type All = dyn Fn() -> Vec<(String, String)> + Send + Sync;

/// Where variables come from.
#[derive(Clone)]
pub struct Environment {
    pub lookup: Arc<Lookup>,
    pub all: Arc<All>,
}

/// What can be written under its `metadata`.
pub(crate) const OPTIONS: &[Opt] = &[opt(
    "prefix",
    NONE,
    "put before a secret's name to get the variable's",
)];

#[derive(Debug, serde::Deserialize)]
pub struct Config {
    /// Put before a secret's name to get the variable's.
    #[serde(default)]
    pub prefix: String,
}

pub struct Variables {
    prefix: String,
    environment: Environment,
    log: Log,
}

impl Variables {
    pub fn new(setup: Setup<Config>, environment: Environment) -> Self {
        Self {
            prefix: setup.config.prefix,
            environment,
            log: setup.log,
        }
    }
}

impl Component for Variables {}

#[async_trait::async_trait]
impl SecretStore for Variables {
    fn features(&self) -> Features {
        Features::default()
    }

    async fn get(&self, name: &str, _metadata: &Metadata) -> Result<Secret> {
        let variable = format!("{}{name}", self.prefix);
        let value = if is_allowed(&variable) {
            (self.environment.lookup)(&variable)
        } else {
            self.log
                .warn(format_args!("Access to env var {name} is forbidden"));
            None
        };
        Ok(single(name, value.unwrap_or_default()))
    }

    async fn all(&self, _metadata: &Metadata) -> Result<BTreeMap<String, Secret>> {
        let secrets = (self.environment.all)()
            .into_iter()
            .filter_map(|(variable, value)| {
                let name = variable.strip_prefix(&self.prefix)?;
                let named = !name.is_empty() || self.prefix.is_empty();
                (named && is_allowed(&variable)).then(|| (name.to_owned(), single(name, value)))
            });
        Ok(secrets.collect())
    }
}

fn single(name: &str, value: String) -> Secret {
    Secret(BTreeMap::from([(name.to_owned(), value)]))
}

fn is_allowed(variable: &str) -> bool {
    let variable = variable.to_ascii_uppercase();
    variable != "APP_API_TOKEN" && !variable.starts_with("DAPR_")
}
