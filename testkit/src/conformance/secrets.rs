//! Secret stores.

use outrigger_component::error::Kind;
use outrigger_component::metadata::Metadata;
use outrigger_component::secret::SecretStore;
use std::collections::BTreeMap;

/// A secret that the store holds: its name and its values.
pub type Expected<'a> = (&'a str, &'a [(&'a str, &'a str)]);

/// What the store says of a secret that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// An error of kind `NotFound` with this text.
    Error(&'static str),
    /// One value, which is empty: the backend cannot tell.
    Empty,
}

/// The store must hold at least these secrets, and none called `absent`.
///
/// # Panics
/// When the store does not do what it claims.
pub async fn run(store: &dyn SecretStore, expected: &[Expected<'_>], absent: Absent) {
    let none = Metadata::new();
    let all = store.all(&none).await.expect("all secrets");
    for (name, values) in expected {
        let values: BTreeMap<String, String> = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        if !store.features().multiple_key_values_per_secret {
            assert_eq!(
                values.len(),
                1,
                "{name}: several values per secret are not claimed"
            );
        }
        let single = store
            .get(name, &none)
            .await
            .unwrap_or_else(|error| panic!("secret {name}: {error}"));
        assert_eq!(single.0, values, "secret {name}");
        assert_eq!(
            all.get(*name).map(|secret| &secret.0),
            Some(&values),
            "secret {name} among all"
        );
    }
    assert!(
        !all.contains_key("absent"),
        "a secret that does not exist is not among all"
    );
    match (store.get("absent", &none).await, absent) {
        (Err(error), Absent::Error(text)) => {
            assert_eq!((error.kind, error.message.as_str()), (Kind::NotFound, text))
        }
        (Ok(secret), Absent::Empty) => assert!(secret.0.values().all(String::is_empty), "{secret:?}"),
        (result, absent) => panic!("absent secret: {result:?}, expected {absent:?}"),
    }
}
