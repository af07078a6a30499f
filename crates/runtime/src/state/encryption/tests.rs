use super::{Keys, Misconfigured, Unreadable};
use bytes::Bytes;
use outrigger_component::metadata::Metadata;
use outrigger_component::state::{Item, Set};
use outrigger_resources::component::Component;

const ONE: &str = "000102030405060708090a0b0c0d0e0f";
const TWO: &str = "FFEEDDCCBBAA99887766554433221100FFEEDDCCBBAA99887766554433221100";

/// `(name, secret, value)`: the secret it refers to, and what it was resolved to.
fn keys(items: &[(&str, &str, &str)]) -> Result<Option<Keys>, Misconfigured> {
    let documents: Vec<_> = items
        .iter()
        .map(|(name, secret, value)| {
            if secret.is_empty() {
                serde_json::json!({"name": name, "value": value})
            } else {
                serde_json::json!({"name": name, "secretKeyRef": {"name": secret}})
            }
        })
        .collect();
    let document: Component = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "s"},
        "spec": {"type": "state.fake", "version": "v1", "metadata": documents},
    }))
    .unwrap();
    let mut metadata: Metadata = items.iter().map(|(name, _, value)| (*name, *value)).collect();
    metadata.insert("other", "kept");
    let keys = Keys::take(&document, &mut metadata)?;
    let left: Vec<_> = metadata.iter().collect();
    assert_eq!(left, [("other", "kept")], "components do not see keys");
    Ok(keys)
}

fn sealed(keys: &Keys, value: &str, is_json: bool) -> Bytes {
    let set = Set {
        key: "k".to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
        is_json,
        ..Set::default()
    };
    let set = keys.encrypt(set);
    assert_eq!((&*set.key, set.is_json), ("k", false));
    set.value
}

fn opened(keys: &Keys, value: impl Into<Bytes>) -> Result<String, Unreadable> {
    let item = Item {
        value: value.into(),
        ..Item::default()
    };
    let item = keys.decrypt(item)?;
    Ok(String::from_utf8(item.value.to_vec()).unwrap())
}

#[test]
fn values_come_back() {
    let keys = keys(&[("primaryEncryptionKey", "one", ONE)]).unwrap().unwrap();
    for (value, is_json, expected) in [
        ("", false, ""),
        ("plain||text", false, "plain||text"),
        ("\"text\"", false, "\"text\""),
        ("\"te\\\"xt\"", true, "te\"xt"),
        ("{\"a\": \"b\"}", true, "{\"a\": \"b\"}"),
        ("12.50", true, "12.50"),
    ] {
        let stored = sealed(&keys, value, is_json);
        assert!(stored.ends_with(b"||one"));
        assert!(!String::from_utf8_lossy(&stored).contains("text"));
        assert_ne!(
            stored,
            sealed(&keys, value, is_json),
            "a nonce of its own each time"
        );
        assert_eq!(opened(&keys, stored).as_deref(), Ok(expected));
    }
    assert_eq!(opened(&keys, "").as_deref(), Ok(""));
}

/// Made with OpenSSL's AES-128-GCM and AES-256-GCM, nonce 0 to 11 before the ciphertext and tag, as Go's
/// `Seal(nonce, nonce, value, nil)` does.
#[test]
fn records_of_others_are_read() {
    let keys = keys(&[
        ("primaryEncryptionKey", "one", ONE),
        ("secondaryEncryptionKey", "two", TWO),
    ])
    .unwrap()
    .unwrap();
    for (record, expected) in VECTORS {
        assert_eq!(opened(&keys, *record).as_deref(), Ok(*expected), "{record}");
    }
}

const VECTORS: &[(&str, &str)] = &[
    ("AAECAwQFBgcICQoL5Q3LuwMq90P3NKPcwPMMPZ7O4HShuw==||one", "value1"),
    ("AAECAwQFBgcICQoLz0Red5ZOHFsh4z8BNICn1UtxwZ1kzg==||two", "value2"),
];

#[test]
fn keys_rotate() {
    let old = keys(&[("primaryEncryptionKey", "one", ONE)]).unwrap().unwrap();
    let stored = sealed(&old, "v", false);
    let new = keys(&[
        ("primaryEncryptionKey", "two", TWO),
        ("SecondaryEncryptionKey", "one", ONE),
    ])
    .unwrap()
    .unwrap();
    assert_eq!(opened(&new, stored.clone()).as_deref(), Ok("v"));
    assert!(sealed(&new, "v", false).ends_with(b"||two"));
    let only_new = keys(&[("primaryEncryptionKey", "two", TWO)]).unwrap().unwrap();
    assert_eq!(
        opened(&only_new, stored),
        Err(Unreadable::UnknownKey("one".to_owned()))
    );
    let renamed = keys(&[("primaryEncryptionKey", "one", TWO)]).unwrap().unwrap();
    assert_eq!(
        opened(&renamed, sealed(&old, "v", false)),
        Err(Unreadable::Damaged),
        "another key of the same name"
    );
}

#[test]
fn what_is_no_record_is_refused() {
    let keys = keys(&[("primaryEncryptionKey", "one", ONE)]).unwrap().unwrap();
    for (record, expected) in [
        ("plain", Unreadable::NoName),
        ("AAAA||", Unreadable::NoName),
        ("AAAA||one", Unreadable::Damaged),
        ("????||one", Unreadable::Damaged),
        (
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=||one",
            Unreadable::Damaged,
        ),
        ("AAAA||other", Unreadable::UnknownKey("other".to_owned())),
    ] {
        assert_eq!(opened(&keys, record), Err(expected), "{record}");
    }
}

#[test]
fn metadata() {
    assert!(keys(&[]).unwrap().is_none());
    assert!(keys(&[("primaryEncryptionKey", "", "")]).unwrap().is_none());
    for (items, expected) in [
        (
            &[("primaryEncryptionKey", "", ONE)][..],
            Misconfigured::Inline("primaryEncryptionKey"),
        ),
        (
            &[("primaryEncryptionKey", "one", "")],
            Misconfigured::Missing {
                item: "primaryEncryptionKey",
                secret: "one".to_owned(),
            },
        ),
        (
            &[("primaryEncryptionKey", "one", "00")],
            Misconfigured::Malformed("primaryEncryptionKey"),
        ),
        (
            &[("primaryEncryptionKey", "one", "000102030405060708090a0b0c0d0e0g")],
            Misconfigured::Malformed("primaryEncryptionKey"),
        ),
        (
            &[("secondaryEncryptionKey", "one", ONE)],
            Misconfigured::OnlySecondary,
        ),
    ] {
        assert_eq!(keys(items).unwrap_err(), expected, "{items:?}");
    }
    let keys = keys(&[("primaryEncryptionKey", "one", ONE)]).unwrap();
    assert_eq!(
        format!("{keys:?}"),
        "Some(Keys { primary: \"one\", secondary: None })"
    );
}
