//! The only list of vendors in the repository. Each is a cargo feature, so that a slim build leaves out what it does
//! not need; all are on by default.

use outrigger_component::registry::Registry;
use std::path::PathBuf;
use std::sync::Arc;

/// The value of one environment variable.
pub type Variable = dyn Fn(&str) -> Option<String> + Send + Sync;
/// Names and values of all environment variables.
pub type Variables = dyn Fn() -> Vec<(String, String)> + Send + Sync;

/// What vendors need to know of this process; nothing else is read from it.
#[derive(Clone)]
pub struct Options {
    /// The value of an environment variable, for `secretstores.local.env`.
    pub variable: Arc<Variable>,
    /// All environment variables.
    pub variables: Arc<Variables>,
    /// Where the hub of this machine listens, if there is one; for the `outrigger` components.
    pub hub_socket: Option<PathBuf>,
}

/// Adds every component type of this build.
///
/// # Panics
/// When a type is registered already.
pub fn register_all(registry: &mut Registry, options: Options) {
    let Options {
        variable,
        variables,
        hub_socket,
    } = options;
    #[cfg(feature = "builtin")]
    {
        use outrigger_components_builtin::secrets::environment::Environment;
        outrigger_components_builtin::register(
            registry,
            Environment {
                lookup: variable,
                all: variables,
            },
        );
    }
    #[cfg(not(feature = "builtin"))]
    drop((variable, variables));
    #[cfg(feature = "embedded")]
    outrigger_components_embedded::register(registry, hub_socket);
    #[cfg(not(feature = "embedded"))]
    drop(hub_socket);
    #[cfg(feature = "etcd")]
    outrigger_components_etcd::register(registry);
    #[cfg(feature = "http")]
    outrigger_components_http::register(registry);
    #[cfg(feature = "kafka")]
    outrigger_components_kafka::register(registry);
    #[cfg(feature = "memcached")]
    outrigger_components_memcached::register(registry);
    #[cfg(feature = "mqtt")]
    outrigger_components_mqtt::register(registry);
    #[cfg(feature = "postgresql")]
    outrigger_components_postgresql::register(registry);
    #[cfg(feature = "rabbitmq")]
    outrigger_components_rabbitmq::register(registry);
    #[cfg(feature = "mysql")]
    outrigger_components_mysql::register(registry);
    #[cfg(feature = "redis")]
    outrigger_components_redis::register(registry);
    #[cfg(feature = "sqlite")]
    outrigger_components_sqlite::register(registry);
}
