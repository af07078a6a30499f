//! `state.jetstream`.

use super::server::{api, build_store, make_bucket};
use outrigger_component::error::Kind;
use outrigger_component::state::{Consistency, Delete, Get, StateStore};
use outrigger_testkit::conformance::state::{self, churn};
use outrigger_testkit::servers::nats::{Nats, start};
use outrigger_testkit::store::{of, set};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

async fn store(nats: &Nats) -> Arc<dyn StateStore> {
    build_store(&[("natsURL", nats.url().as_str()), ("bucket", "B")])
        .await
        .unwrap()
}

async fn read(store: &Arc<dyn StateStore>, key: &str, consistency: Consistency) -> Option<String> {
    let get = Get {
        consistency,
        ..of(key)
    };
    let item = store.get(&get).await.unwrap()?;
    Some(String::from_utf8(item.value.to_vec()).unwrap())
}

#[tokio::test]
async fn buckets_conform_with_direct_reads_and_without() {
    for direct in [true, false] {
        let Some(nats) = start("").await else { return };
        make_bucket(&nats, direct).await;
        let store = store(&nats).await;
        state::run(&*store, "app").await;
        assert!(store.features().names().is_empty());
        store.close().await;
    }
}

/// COMPAT(components-contrib state/jetstream).
#[tokio::test]
async fn values_are_where_the_reference_has_them() {
    let Some(nats) = start("").await else { return };
    make_bucket(&nats, true).await;
    let store = store(&nats).await;
    store.set(set("app||order.1", "one")).await.unwrap();
    let last = api(
        &nats,
        "STREAM.MSG.GET.KV_B",
        json!({"last_by_subj": "$KV.B.app.order.1"}),
    )
    .await;
    assert_eq!(last["message"]["data"], "b25l");
    let client = async_nats::connect(nats.url()).await.unwrap();
    let theirs = client.request("$KV.B.app.theirs", "x".into()).await.unwrap();
    assert!(String::from_utf8_lossy(&theirs.payload).contains("seq"));
    for consistency in [Consistency::Eventual, Consistency::Strong] {
        assert_eq!(
            read(&store, "app||theirs", consistency).await.as_deref(),
            Some("x")
        );
        assert_eq!(read(&store, "app||nothing", consistency).await, None);
    }
    for operation in ["DEL", "PURGE"] {
        store.set(set("app||k", "v")).await.unwrap();
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("KV-Operation", operation);
        client
            .request_with_headers("$KV.B.app.k", headers, "".into())
            .await
            .unwrap();
        for consistency in [Consistency::Eventual, Consistency::Strong] {
            assert_eq!(read(&store, "app||k", consistency).await, None, "{operation}");
        }
    }
    store
        .delete(Delete {
            key: "app||theirs".to_owned(),
            ..Delete::default()
        })
        .await
        .unwrap();
    assert_eq!(read(&store, "app||theirs", Consistency::Strong).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_no_answered_write() {
    let Some(mut nats) = start("").await else { return };
    make_bucket(&nats, true).await;
    let store = store(&nats).await;
    churn::interrupted(&*store, 2, Duration::from_secs(30), async || {
        nats.kill();
        nats.restart().await;
    })
    .await;
}

#[tokio::test]
async fn settings_refused() {
    let Some(nats) = start("").await else { return };
    let url = nats.url();
    for (metadata, expected) in [
        (&[][..], "missing nats URL"),
        (&[("natsURL", url.as_str())], "missing bucket"),
        (
            &[("natsURL", url.as_str()), ("bucket", "a.b")],
            "can be no bucket",
        ),
        (
            &[("natsURL", url.as_str()), ("bucket", "none")],
            "there is no bucket none",
        ),
        (
            &[("natsURL", url.as_str()), ("bucket", "B"), ("seedKey", "x")],
            "missing jwt",
        ),
    ] {
        let error = build_store(metadata).await.err().expect(expected);
        assert_eq!(error.kind, Kind::Invalid, "{error}");
        assert!(error.message.contains(expected), "{error}");
    }
}
