//! Values and keys of all kinds.

use super::Nature;
use outrigger_component::state::{Get, Set, StateStore};
use serde_json::Value;

/// More than any page, packet or buffer of a database, less than any limit of one.
const LARGE: usize = 256 * 1024;

pub(super) async fn all(store: &dyn StateStore, prefix: &str, nature: Nature) {
    let every_byte: Vec<u8> = (0..=255).collect();
    let large: Vec<u8> = every_byte.iter().copied().cycle().take(LARGE).collect();
    for (name, value) in [
        ("bytes", every_byte.as_slice()),
        ("large", &large),
        ("text", "\u{e9}\u{20ac}\u{1f980}\n".as_bytes()),
        ("quotes", br#"'; drop table "state" \"#),
        ("like-json", br#"{ "a" : 1 }"#),
        ("like-base64", b"YWJj"),
    ] {
        let set = Set {
            key: format!("{prefix}{name}"),
            value: value.to_vec().into(),
            ..Set::default()
        };
        let came = written(store, set).await;
        // Not `assert_eq`: nobody wants to read a megabyte.
        assert!(
            came == value,
            "{name}: {} bytes came instead of {}",
            came.len(),
            value.len()
        );
    }
    for json in [
        r#"{"b": [1, 2.5, null, true], "a": {"n": "\u00e9\ud83e\udd80"}}"#,
        "[]",
        "\"text\"",
        "9007199254740993",
        "true",
        "null",
    ] {
        let set = Set {
            key: format!("{prefix}json"),
            value: json.as_bytes().to_vec().into(),
            is_json: true,
            ..Set::default()
        };
        let came = written(store, set).await;
        let came: Value = serde_json::from_slice(&came).unwrap_or_else(|error| panic!("{json}: {error}"));
        let sent: Value = serde_json::from_str(json).expect("the cases are JSON");
        assert_eq!(
            came, sent,
            "a store may write it in another way, but not change it"
        );
    }
    for key in [
        "a/b",
        "a.b",
        "a_b%c*d?e[f]",
        "with space",
        "\u{e9}",
        "'quoted'\"\\",
        "a||b||c",
    ] {
        if nature.plain_keys && key.contains(|c: char| !c.is_ascii_graphic()) {
            continue;
        }
        let set = Set {
            key: format!("{prefix}key-{key}"),
            value: key.as_bytes().to_vec().into(),
            ..Set::default()
        };
        assert_eq!(written(store, set).await, key.as_bytes(), "value of key {key:?}");
    }
}

/// Writes a value and reads it back.
async fn written(store: &dyn StateStore, set: Set) -> Vec<u8> {
    let key = set.key.clone();
    store
        .set(set)
        .await
        .unwrap_or_else(|error| panic!("{key}: {error}"));
    let get = Get {
        key: key.clone(),
        ..Get::default()
    };
    let item = store
        .get(&get)
        .await
        .unwrap_or_else(|error| panic!("{key}: {error}"));
    item.unwrap_or_else(|| panic!("{key} is there")).value.to_vec()
}
