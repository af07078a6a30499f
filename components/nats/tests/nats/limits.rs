//! Streams and accounts that are full.

use super::server::{api, broker, build_store};
use outrigger_component::error::Kind;
use outrigger_component::state::Set;
use outrigger_testkit::broker::{expect, message, subscribe};
use outrigger_testkit::limits::exhausted;
use outrigger_testkit::servers::nats::start;
use serde_json::{Value, json};

/// A stream that keeps what it has, and an account that has no more: said at once, and over when there is room.
#[tokio::test]
async fn full_streams_and_accounts() {
    let accounts = "no_auth_user: ann\naccounts { A { jetstream { max_file: 1M, max_mem: 0 }, users: [ { user: ann, password: secret } ] } }";
    let Some(nats) = start(accounts).await else { return };
    let stream = |name: &str, most: i64| {
        json!({
            "name": name, "subjects": [format!("{name}.>")], "storage": "file", "retention": "limits", "discard": "new",
            "num_replicas": 1, "max_consumers": -1, "max_msgs": -1, "max_bytes": most, "max_age": 0, "max_msg_size": -1,
        })
    };
    api(&nats, "STREAM.CREATE.full", stream("full", 20_000)).await;
    api(&nats, "STREAM.CREATE.rest", stream("rest", -1)).await;
    let broker = broker(&nats.url(), &[]).await;
    for (topic, size, words) in [
        ("full.t", 5_000, "maximum bytes exceeded (10077)"),
        ("rest.t", 200_000, "account"),
    ] {
        let (kept, error) = exhausted(20, async |number| {
            let content = format!("{number}{}", "x".repeat(size));
            broker.publish(message(topic, &content)).await
        })
        .await;
        assert_eq!(error.kind, Kind::Exhausted, "{error:?}");
        assert!(!kept.is_empty(), "{topic}: {error}");
        for expected in [words, &format!("error from publish to {topic}")] {
            assert!(error.message.contains(expected), "{expected}: {error}");
        }
        let name = topic.split('.').next().unwrap();
        api(&nats, &format!("STREAM.PURGE.{name}"), Value::Null).await;
        let mut inbox = subscribe(&*broker, topic).await;
        broker.publish(message(topic, "after")).await.unwrap();
        expect(&mut inbox, "after").await;
    }
    let bucket = json!({
        "name": "KV_B", "subjects": ["$KV.B.>"], "storage": "file", "retention": "limits", "discard": "new", "num_replicas": 1,
        "max_consumers": -1, "max_msgs": -1, "max_bytes": 1000, "max_age": 0, "max_msg_size": -1, "max_msgs_per_subject": 1,
        "allow_rollup_hdrs": true, "deny_delete": true,
    });
    api(&nats, "STREAM.CREATE.KV_B", bucket).await;
    let url = nats.url();
    let store = build_store(&[("natsURL", url.as_str()), ("bucket", "B")])
        .await
        .unwrap();
    let set = Set {
        key: "k".to_owned(),
        value: vec![b'x'; 5000].into(),
        ..Set::default()
    };
    let error = store.set(set).await.unwrap_err();
    assert_eq!(error.kind, Kind::Exhausted, "{error:?}");
}
