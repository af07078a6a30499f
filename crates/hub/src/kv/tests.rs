use super::engine::Engine;
use super::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::path::Path;

fn open(path: &Path) -> (Kv, Option<u64>) {
    let (engine, checkpoint) = Engine::open(path).unwrap();
    (Kv::new(engine), checkpoint.map(|found| found.sequence))
}

fn item(version: u64, expires: u64) -> Option<Item> {
    Some(Item {
        version,
        expires,
        content_type: "text/plain".to_owned(),
        value: Bytes::from(format!("value {version}")),
    })
}

fn key(name: &str) -> Key {
    Bytes::from(format!("space\0{name}"))
}

fn checkpoint(kv: &Kv, sequence: u64, now: u64) {
    let layer = kv.seal().unwrap();
    kv.engine().flush(&layer, sequence, b"catalog", now).unwrap();
    kv.unseal();
}

#[test]
fn a_checkpoint_is_found_again_and_holds_everything_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kv.redb");
    let (kv, found) = open(&path);
    assert_eq!(found, None);
    kv.put([(key("a"), item(1, 0)), (key("b"), item(2, 0))]);
    checkpoint(&kv, 3, 0);
    kv.put([(key("a"), None), (key("c"), item(4, 0))]);
    assert_eq!(kv.get(&key("a"), 0).unwrap(), None);
    assert_eq!(kv.get(&key("b"), 0).unwrap(), item(2, 0));
    drop(kv);
    let (kv, found) = open(&path);
    assert_eq!(found, Some(3));
    assert_eq!(
        kv.get(&key("a"), 0).unwrap(),
        item(1, 0),
        "what came later is the log's business"
    );
    assert_eq!(kv.get(&key("c"), 0).unwrap(), None);
}

#[test]
fn expired_items_are_invisible_at_once_and_removed_by_the_next_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (kv, _) = open(&folder.path().join("kv.redb"));
    kv.put([
        (key("soon"), item(1, 100)),
        (key("later"), item(2, 200)),
        (key("never"), item(3, 0)),
    ]);
    assert!(kv.get(&key("soon"), 99).unwrap().is_some());
    assert!(kv.get(&key("soon"), 100).unwrap().is_none());
    checkpoint(&kv, 4, 50);
    // Set anew without expiry: the row that says otherwise must not remove it.
    kv.put([(key("later"), item(5, 0))]);
    checkpoint(&kv, 6, 150);
    assert_eq!(
        kv.get(&key("soon"), 0).unwrap(),
        None,
        "it is gone, not only hidden"
    );
    checkpoint(&kv, 7, 250);
    assert_eq!(kv.get(&key("later"), 250).unwrap(), item(5, 0));
    assert_eq!(kv.get(&key("never"), 250).unwrap(), item(3, 0));
}

/// Random writes, checkpoints at any moment, and every page of every listing compared with a plain map.
#[test]
fn layers_and_engine_together_are_one_map() {
    for seed in 0..6 {
        let mut random = StdRng::seed_from_u64(seed);
        let folder = tempfile::tempdir().unwrap();
        let (kv, _) = open(&folder.path().join("kv.redb"));
        let mut model: BTreeMap<Key, Item> = BTreeMap::new();
        let mut sealed: Option<(Arc<Layer>, u64)> = None;
        let now = 1_000;
        for version in 1..300 {
            let name = format!(
                "{}{}",
                ["a", "ab", "b"][random.random_range(0..3)],
                random.random_range(0..30)
            );
            let written = match random.random_range(0..4) {
                0 => None,
                1 => item(version, [0, 500, 2_000][random.random_range(0..3)]),
                _ => item(version, 0),
            };
            kv.put([(key(&name), written.clone())]);
            match written.filter(|item| !item.expired(now)) {
                Some(item) => model.insert(key(&name), item),
                None => model.remove(&key(&name)),
            };
            match (&sealed, random.random_range(0..20)) {
                (None, 0) => sealed = kv.seal().map(|layer| (layer, version)),
                (Some((layer, sequence)), 1..4) => {
                    kv.engine().flush(layer, *sequence, b"", now).unwrap();
                    kv.unseal();
                    sealed = None;
                }
                _ => {}
            }
            if version % 10 > 0 {
                continue;
            }
            for prefix in ["", "a", "ab", "b", "c"] {
                let prefix = key(prefix);
                let expected: Vec<Key> = model
                    .keys()
                    .filter(|key| key.starts_with(&prefix))
                    .cloned()
                    .collect();
                let mut listed = Vec::new();
                let limit = random.random_range(1..10);
                loop {
                    let after = listed.last().cloned();
                    let (page, more) = kv.keys(&prefix, after.as_deref(), limit, now).unwrap();
                    assert!(page.len() <= limit);
                    listed.extend(page);
                    if !more {
                        break;
                    }
                }
                assert_eq!(listed, expected, "seed {seed}, version {version}");
            }
            for (key, item) in &model {
                assert_eq!(kv.get(key, now).unwrap().as_ref(), Some(item), "seed {seed}");
            }
        }
    }
}
