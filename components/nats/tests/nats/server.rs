//! What the tests share: components, and a look at the server as any other client has it.

use outrigger_component::error::Error;
use outrigger_component::pubsub::PubSub;
use outrigger_component::registry::Registry;
use outrigger_component::state::StateStore;
use outrigger_components_nats::register;
use outrigger_testkit::servers::nats::Nats;
use outrigger_testkit::setup::setup;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) async fn build(metadata: &[(&str, &str)]) -> Result<Arc<dyn PubSub>, Error> {
    let mut registry = Registry::default();
    register(&mut registry);
    registry.brokers().build("jetstream", "v1", setup(metadata)).await
}

pub(crate) async fn build_store(metadata: &[(&str, &str)]) -> Result<Arc<dyn StateStore>, Error> {
    let mut registry = Registry::default();
    register(&mut registry);
    registry
        .state_stores()
        .build("jetstream", "v1", setup(metadata))
        .await
}

/// As a sidecar of a group.
pub(crate) async fn broker(url: &str, metadata: &[(&str, &str)]) -> Arc<dyn PubSub> {
    let group = [
        ("natsURL", url),
        ("durableName", "app"),
        ("queueGroupName", "app"),
    ];
    build(&[&group, metadata].concat()).await.unwrap()
}

/// One of JetStream's requests; panics if it is refused.
pub(crate) async fn api(nats: &Nats, name: &str, request: Value) -> Value {
    let client = async_nats::connect(nats.url()).await.unwrap();
    let body = if request.is_null() {
        Vec::new()
    } else {
        serde_json::to_vec(&request).unwrap()
    };
    let answer = client
        .request(format!("$JS.API.{name}"), body.into())
        .await
        .unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert!(answer["error"].is_null(), "{name}: {answer}");
    answer
}

/// With the subjects below `t.`.
pub(crate) async fn make_stream(nats: &Nats) {
    let stream = json!({
        "name": "S", "subjects": ["t.>"], "storage": "file", "retention": "limits", "discard": "old", "num_replicas": 1,
        "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0, "max_msg_size": -1,
    });
    api(nats, "STREAM.CREATE.S", stream).await;
}

pub(crate) async fn make_bucket(nats: &Nats, direct: bool) {
    let stream = json!({
        "name": "KV_B", "subjects": ["$KV.B.>"], "storage": "file", "retention": "limits", "discard": "new", "num_replicas": 1,
        "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0, "max_msg_size": -1, "max_msgs_per_subject": 1,
        "allow_rollup_hdrs": true, "deny_delete": true, "allow_direct": direct,
    });
    api(nats, "STREAM.CREATE.KV_B", stream).await;
}
