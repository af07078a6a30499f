//! Talking to a state store in the tests of one: values are texts.
//!
//! What every store must do is in [`crate::conformance::state`]; this is for what only one of them does.

use outrigger_component::state::{Get, Set, StateStore};

/// Reads this key.
pub fn of(key: &str) -> Get {
    Get {
        key: key.to_owned(),
        ..Get::default()
    }
}

pub fn set(key: &str, value: &str) -> Set {
    Set {
        key: key.to_owned(),
        value: value.as_bytes().to_vec().into(),
        ..Set::default()
    }
}

/// The value, and its tag, which is empty if there is none.
///
/// # Panics
/// When it cannot be read, or is no text.
pub async fn get(store: &dyn StateStore, key: &str) -> Option<(String, String)> {
    let found = store.get(&of(key)).await;
    let item = found.unwrap_or_else(|error| panic!("reading {key}: {error}"))?;
    let value = String::from_utf8(item.value.to_vec()).expect("tests write text");
    Some((value, item.etag.unwrap_or_default()))
}

/// The value alone.
///
/// # Panics
/// As [`get`].
pub async fn text(store: &dyn StateStore, key: &str) -> Option<String> {
    Some(get(store, key).await?.0)
}
