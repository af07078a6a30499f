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

#[cfg(test)]
mod tests {
    use super::{Options, register_all};
    use outrigger_component::registry::Registry;
    use std::sync::Arc;

    fn registry() -> Registry {
        let mut registry = Registry::default();
        let options = Options {
            variable: Arc::new(|_| None),
            variables: Arc::new(Vec::new),
            hub_socket: None,
        };
        register_all(&mut registry, options);
        registry
    }

    /// What is decoded and in no table would be warned of as unknown, and missing in the documentation. Types of one
    /// vendor may share what they decode into.
    #[test]
    fn every_name_that_is_read_is_in_a_table() {
        let types = registry().types();
        let mut missing = Vec::new();
        for of in &types {
            let siblings = || types.iter().filter(|other| other.name == of.name);
            for name in &of.names {
                if !siblings().any(|other| other.all_options().any(|option| option.is(name))) {
                    missing.push(format!("{}/{}: {name}", of.full(), of.version));
                }
            }
        }
        assert!(missing.is_empty(), "in no table of options: {missing:#?}");
    }

    #[test]
    fn tables_say_each_name_once_and_what_it_does() {
        for of in registry().types() {
            let options: Vec<_> = of.all_options().collect();
            for option in &options {
                let at = format!("{}: {}", of.full(), option.name);
                assert!(!option.about.is_empty(), "{at} does what?");
                assert!(!option.about.ends_with('.'), "{at}: no final stop");
                let times = options.iter().filter(|other| other.is(option.name)).count();
                assert_eq!(times, 1, "{at} is there {times} times");
            }
        }
    }
}
