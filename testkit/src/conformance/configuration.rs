//! Configuration stores. Values are written by the test, in whatever way the store has.

use futures::StreamExt as _;
use futures::future::BoxFuture;
use outrigger_component::configuration::{Changes, ConfigurationStore, Get, Items};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

/// Writes a value, or removes the key.
pub type Write<'w> = dyn Fn(&'static str, Option<&'static str>) -> BoxFuture<'static, ()> + Sync + 'w;

/// Runs all cases. The store has no keys yet.
///
/// # Panics
/// When the store does not do what the trait says.
pub async fn run(store: &dyn ConfigurationStore, write: &Write<'_>) {
    assert!(read(store, &[]).await.is_empty(), "a store without values");
    write("colour", Some("red")).await;
    write("size", Some("xl")).await;
    write("empty", Some("")).await;
    let all = read(store, &[]).await;
    assert_eq!(values(&all), [("colour", "red"), ("empty", ""), ("size", "xl")]);
    let some = read(store, &["size", "absent"]).await;
    assert_eq!(values(&some), [("size", "xl")], "absent keys are left out");

    let mut everything = watch(store, &[]).await;
    let mut one = watch(store, &["colour"]).await;
    write("size", Some("s")).await;
    assert_eq!(values(&next(&mut everything).await), [("size", "s")]);
    write("colour", Some("blue")).await;
    assert_eq!(values(&next(&mut everything).await), [("colour", "blue")]);
    let told = next(&mut one).await;
    assert_eq!(values(&told), [("colour", "blue")], "other keys are not told");
    let (before, after) = (version(&all, "colour"), version(&told, "colour"));
    assert!(
        before != after || before.is_empty(),
        "a version that changes with the value: {before}"
    );
    write("colour", None).await;
    assert_eq!(
        values(&next(&mut one).await),
        [("colour", "")],
        "a removed key is told as an empty one"
    );
    assert!(read(store, &["colour"]).await.is_empty());
    drop(one);
    write("later", Some("1")).await;
    loop {
        // The removal may come first or in the same piece.
        if next(&mut everything).await.contains_key("later") {
            break;
        }
    }
}

async fn read(store: &dyn ConfigurationStore, keys: &[&str]) -> Items {
    store
        .get(&asked(keys))
        .await
        .unwrap_or_else(|error| panic!("get {keys:?}: {error}"))
}

async fn watch(store: &dyn ConfigurationStore, keys: &[&str]) -> Changes {
    store
        .watch(&asked(keys))
        .await
        .unwrap_or_else(|error| panic!("watch {keys:?}: {error}"))
}

async fn next(changes: &mut Changes) -> Items {
    tokio::time::timeout(SOON, changes.next())
        .await
        .expect("a change is told soon")
        .expect("the watch goes on")
}

fn asked(keys: &[&str]) -> Get {
    Get {
        keys: keys.iter().map(|&key| key.to_owned()).collect(),
        ..Get::default()
    }
}

fn values(items: &Items) -> Vec<(&str, &str)> {
    items
        .iter()
        .map(|(key, item)| (key.as_str(), item.value.as_str()))
        .collect()
}

fn version<'i>(items: &'i Items, key: &str) -> &'i str {
    items.get(key).map_or("", |item| &item.version)
}
