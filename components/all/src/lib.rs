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
    #[cfg(feature = "nats")]
    outrigger_components_nats::register(registry);
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
    use outrigger_resources::component::Component;
    use outrigger_resources::disk::Documents;
    use std::path::Path;
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
        // A name for another type has what that type's versions have.
        for of in types.iter().filter(|of| of.alias_of.is_none()) {
            let siblings = || types.iter().filter(|other| other.name == of.name);
            for name in &of.names {
                if !siblings().any(|other| other.all_options().any(|option| option.is(name))) {
                    missing.push(format!("{}/{}: {name}", of.full(), of.version));
                }
            }
        }
        assert!(missing.is_empty(), "in no table of options: {missing:#?}");
    }

    /// Examples in docs/components are of the page's type, and write only what is known.
    #[test]
    fn examples_of_pages_are_right() {
        let types = registry().types();
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/components");
        for of in types.iter().filter(|of| of.category != "nameresolution") {
            // That there is a page, a test of the executable says.
            let Ok(page) = std::fs::read_to_string(docs.join(format!("{}.md", of.full()))) else {
                continue;
            };
            let full = of.full();
            let mut examples = 0;
            for block in page.split("\n```yaml").skip(1) {
                let block = block.split_once('\n').map_or("", |(_, rest)| rest);
                let yaml = block.split("\n```").next().unwrap_or_default();
                let loaded = Documents::of_text(full.clone(), yaml).load::<Component>();
                assert!(loaded.warnings.is_empty(), "{full}: {:?}", loaded.warnings);
                for component in loaded.items.iter().filter(|component| component.kind == full) {
                    examples += 1;
                    let version = if component.version.is_empty() {
                        "v1"
                    } else {
                        &component.version
                    };
                    let known = types
                        .iter()
                        .find(|other| other.full() == full && other.version == version);
                    let known = known.unwrap_or_else(|| panic!("{full}/{version} of an example exists"));
                    for item in component.metadata.iter().filter(|_| known.options.is_some()) {
                        let found = known.all_options().any(|option| option.is(&item.name));
                        assert!(found, "{full}: {} of an example is not known", item.name);
                    }
                }
            }
            assert!(
                examples > 0,
                "docs/components/{full}.md has no example of a Component"
            );
        }
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
