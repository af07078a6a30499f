//! Configuration and locks: request by request, and streams.

use super::bench::{Bench, LIMIT};
use outrigger_proto::dapr::runtime::v1 as proto;
use std::time::Duration;
use tonic::{Code, Streaming};

fn get(store: &str, keys: &[&str]) -> proto::GetConfigurationRequest {
    proto::GetConfigurationRequest {
        store_name: store.to_owned(),
        keys: keys.iter().map(|&key| key.to_owned()).collect(),
        ..Default::default()
    }
}

fn subscribe(store: &str, keys: &[&str]) -> proto::SubscribeConfigurationRequest {
    proto::SubscribeConfigurationRequest {
        store_name: store.to_owned(),
        keys: keys.iter().map(|&key| key.to_owned()).collect(),
        ..Default::default()
    }
}

async fn next(
    stream: &mut Streaming<proto::SubscribeConfigurationResponse>,
) -> Option<proto::SubscribeConfigurationResponse> {
    tokio::time::timeout(Duration::from_secs(10), stream.message())
        .await
        .expect("nothing comes")
        .unwrap()
}

#[tokio::test]
async fn configuration_is_read() {
    let Bench { client, settings, .. } = &mut Bench::new().await;
    settings.set("a", "1");
    settings.set("b", "2");
    let all = client
        .get_configuration(get("c", &[]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(all.items.len(), 2);
    let one = client
        .get_configuration_alpha1(get("c", &["b", "absent"]))
        .await
        .unwrap()
        .into_inner();
    let item = &one.items["b"];
    assert_eq!(
        (one.items.len(), &*item.value, &*item.version, item.metadata.len()),
        (1, "2", "2", 0)
    );
    let missing = client.get_configuration(get("x", &[])).await.unwrap_err();
    assert_eq!(
        (missing.code(), missing.message()),
        (Code::InvalidArgument, "configuration store x not found")
    );
}

#[tokio::test]
async fn changes_are_streamed_until_unsubscribed() {
    let Bench { client, settings, .. } = &mut Bench::new().await;
    let mut stream = client
        .subscribe_configuration(subscribe("c", &["b", "a"]))
        .await
        .unwrap()
        .into_inner();
    let first = next(&mut stream).await.unwrap();
    assert!(!first.id.is_empty() && first.items.is_empty());
    settings.set("other", "0");
    settings.set("a", "1");
    let told = next(&mut stream).await.unwrap();
    assert_eq!(told.id, first.id);
    assert_eq!((told.items.len(), &*told.items["a"].value), (1, "1"));

    let unsubscribe = |id: &str| proto::UnsubscribeConfigurationRequest {
        store_name: "ignored".to_owned(),
        id: id.to_owned(),
    };
    let ended = client
        .unsubscribe_configuration(unsubscribe(&first.id))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((ended.ok, &*ended.message), (true, ""));
    assert!(next(&mut stream).await.is_none(), "the stream ends well");
    let again = client
        .unsubscribe_configuration_alpha1(unsubscribe(&first.id))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (again.ok, again.message),
        (
            false,
            format!(
                "failed to unsubscribe to configuration request {}: subscription does not exist",
                first.id
            )
        )
    );
}

#[tokio::test]
async fn draining_ends_streams_well() {
    let mut bench = Bench::new().await;
    let mut stream = bench
        .client
        .subscribe_configuration_alpha1(subscribe("c", &[]))
        .await
        .unwrap()
        .into_inner();
    next(&mut stream).await.unwrap();
    bench.drain.fire();
    assert!(next(&mut stream).await.is_none());
}

#[tokio::test]
async fn refusals_of_streams() {
    let Bench { client, settings, .. } = &mut Bench::new().await;
    let missing = client
        .subscribe_configuration(subscribe("x", &[]))
        .await
        .unwrap_err();
    assert_eq!(
        (missing.code(), missing.message()),
        (Code::InvalidArgument, "configuration store x not found")
    );
    let mut stream = client
        .subscribe_configuration(subscribe("c", &[]))
        .await
        .unwrap()
        .into_inner();
    next(&mut stream).await.unwrap();
    settings.set("large", &"x".repeat(LIMIT));
    let status = stream.message().await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
}

#[tokio::test]
async fn locks() {
    let Bench { client, .. } = &mut Bench::new().await;
    let ask = |owner: &str, expiry| proto::TryLockRequest {
        store_name: "l".to_owned(),
        resource_id: "r".to_owned(),
        lock_owner: owner.to_owned(),
        expiry_in_seconds: expiry,
    };
    let granted = client.try_lock_alpha1(ask("ann", 10)).await.unwrap();
    assert_eq!(granted.metadata().get("metadata.fencingtoken").unwrap(), "1");
    assert!(granted.into_inner().success);
    let held = client.try_lock_alpha1(ask("bob", 10)).await.unwrap();
    assert!(held.metadata().get("metadata.fencingtoken").is_none());
    assert!(!held.into_inner().success);
    let wrong = client.try_lock_alpha1(ask("bob", 0)).await.unwrap_err();
    assert_eq!(
        (wrong.code(), wrong.message()),
        (
            Code::InvalidArgument,
            "ExpiryInSeconds is not positive in lock store l"
        )
    );
    for (owner, expected) in [("bob", 2), ("ann", 0), ("ann", 1)] {
        let unlock = proto::UnlockRequest {
            store_name: "l".to_owned(),
            resource_id: "r".to_owned(),
            lock_owner: owner.to_owned(),
        };
        let told = client.unlock_alpha1(unlock).await.unwrap().into_inner();
        assert_eq!(told.status, expected, "{owner}");
    }
}
