//! What all cases need.

use outrigger_component::error::Error;
use outrigger_component::pubsub::{Outcome, Subscription};
use outrigger_component::registry::Registry;
use outrigger_components_redis::register;
use outrigger_testkit::broker::{next, text};
use std::collections::BTreeSet;

pub(crate) fn registry() -> Registry {
    let mut registry = Registry::default();
    register(&mut registry);
    registry
}

/// Components of the type under test.
pub(crate) mod build {
    use super::registry;
    use outrigger_component::binding::OutputBinding;
    use outrigger_component::configuration::ConfigurationStore;
    use outrigger_component::lock::LockStore;
    use outrigger_component::pubsub::PubSub;
    use outrigger_component::state::StateStore;
    use outrigger_testkit::setup::setup;
    use std::sync::Arc;

    pub(crate) async fn store(metadata: &[(&str, &str)]) -> Arc<dyn StateStore> {
        let registry = registry();
        registry
            .state_stores()
            .build("redis", "v1", setup(metadata))
            .await
            .unwrap()
    }

    pub(crate) async fn broker(metadata: &[(&str, &str)]) -> Arc<dyn PubSub> {
        let registry = registry();
        registry
            .brokers()
            .build("redis", "v1", setup(metadata))
            .await
            .unwrap()
    }

    pub(crate) async fn configuration(metadata: &[(&str, &str)]) -> Arc<dyn ConfigurationStore> {
        let registry = registry();
        let stores = registry.configuration_stores();
        stores.build("redis", "v1", setup(metadata)).await.unwrap()
    }

    pub(crate) async fn locks(metadata: &[(&str, &str)]) -> Arc<dyn LockStore> {
        let registry = registry();
        registry
            .lock_stores()
            .build("redis", "v1", setup(metadata))
            .await
            .unwrap()
    }

    pub(crate) async fn binding(metadata: &[(&str, &str)]) -> Arc<dyn OutputBinding> {
        let registry = registry();
        registry
            .output_bindings()
            .build("redis", "v1", setup(metadata))
            .await
            .unwrap()
    }
}

/// Why a store cannot be had.
pub(crate) async fn refused(metadata: &[(&str, &str)]) -> Error {
    let built = registry()
        .state_stores()
        .build("redis", "v1", outrigger_testkit::setup::setup(metadata))
        .await;
    built.err().expect("refused")
}

/// With redelivery that tests can wait for.
pub(crate) fn quick<'a>(host: &'a str, metadata: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let quick = [
        ("redisHost", host),
        ("processingTimeout", "2s"),
        ("redeliverInterval", "200"),
    ];
    [&quick, metadata].concat()
}

/// Takes and acknowledges until all of `expected` have come.
pub(crate) async fn take(subscription: &mut Subscription, mut expected: BTreeSet<String>) {
    while !expected.is_empty() {
        let delivery = next(subscription).await;
        expected.remove(&text(&delivery));
        delivery.settle(Outcome::Ack);
    }
}
