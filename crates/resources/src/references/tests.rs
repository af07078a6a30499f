use super::{Secrets, Warning, is_env_allowed, resolve, secrets};
use crate::property::{Dynamic, Item, SecretKeyRef};
use std::collections::BTreeMap;

#[test]
fn environment_names() {
    for (name, allowed, expect) in [
        ("PATH", "", true),
        ("path", "", true),
        ("", "", false),
        ("APP_API_TOKEN", "", false),
        ("app_api_token", "", false),
        ("DAPR_API_TOKEN", "DAPR_API_TOKEN", false),
        ("dapr_x", "", false),
        ("A B", "A B", false),
        ("ONE", "ONE TWO", true),
        ("TWO", "ONE TWO", true),
        ("two", "ONE TWO", true),
        ("TW", "ONE TWO", false),
        ("NE", "ONE NE", false),
        ("THREE", "ONE TWO", false),
    ] {
        assert_eq!(is_env_allowed(name, allowed), expect, "{name:?} in {allowed:?}");
    }
}

fn item(value: Option<&str>, env: &str, secret: &str, key: &str) -> Item {
    Item {
        name: "p".to_owned(),
        value: value.map(|text| Dynamic::Json(text.into())),
        env_ref: env.to_owned(),
        secret_key_ref: SecretKeyRef {
            name: secret.to_owned(),
            key: key.to_owned(),
        },
    }
}

#[test]
fn values_are_filled_in() {
    let fetched: Secrets = BTreeMap::from([(
        "db".to_owned(),
        BTreeMap::from([
            ("db".to_owned(), "whole".to_owned()),
            ("password".to_owned(), "hunter2".to_owned()),
            ("quoted".to_owned(), "\"q\"".to_owned()),
            ("empty".to_owned(), String::new()),
        ]),
    )]);
    let missing = |key: &str| {
        vec![Warning::Secret {
            property: "p".to_owned(),
            secret: "db".to_owned(),
            key: key.to_owned(),
        }]
    };
    for (mut item, expect, warnings) in [
        (item(Some("own"), "HOME", "", ""), "own", vec![]),
        (item(None, "HOME", "", ""), "/home", vec![]),
        (item(None, "UNSET", "", ""), "", vec![]),
        (
            item(None, "DAPR_SECRET", "", ""),
            "",
            vec![Warning::Environment("DAPR_SECRET".to_owned())],
        ),
        (item(None, "", "db", "password"), "hunter2", vec![]),
        (item(None, "", "db", ""), "whole", vec![]),
        (item(None, "", "db", "quoted"), "q", vec![]),
        (item(Some("kept"), "", "db", "empty"), "kept", missing("empty")),
        (item(None, "", "db", "absent"), "", missing("absent")),
        (item(None, "", "unfetched", "x"), "", vec![]),
        (item(None, "", "", "x"), "", vec![]),
    ] {
        let shown = format!("{item:?}");
        let variable = |name: &str| (name == "HOME").then(|| "/home".to_owned());
        let found = resolve(std::slice::from_mut(&mut item), variable, "", &fetched);
        assert_eq!((item.text().as_str(), found), (expect, warnings), "{shown}");
        assert!(!format!("{item:?}").contains("hunter2"));
    }
    let items = [
        item(None, "", "b", ""),
        item(None, "", "a", "x"),
        item(None, "ENV", "c", ""),
        item(Some("v"), "", "d", ""),
    ];
    assert_eq!(secrets(&items).into_iter().collect::<Vec<_>>(), ["a", "b", "d"]);
}
