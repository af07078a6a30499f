//! `{uuid}`, `{podName}`, `{namespace}` and `{appID}` inside the values of a component.
//! Reference: `pkg/runtime/meta/meta.go`.

use crate::property::Item;
use std::collections::BTreeMap;

/// What the placeholders stand for.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    pub app_id: &'a str,
    pub namespace: &'a str,
    /// Empty outside Kubernetes.
    pub pod: &'a str,
}

/// Text of the reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to parse metadata: property {property} refers to {{podName}} but podName is not set")]
pub struct NoPod {
    pub property: String,
}

/// The properties of a component as text, placeholders replaced; of a repeated name the last counts. `uuid` gives a
/// new random UUID at each call. COMPAT(pkg/runtime/meta/meta.go): `{namespace}` stands for namespace *and* app id.
pub fn properties(
    items: &[Item],
    names: Names<'_>,
    mut uuid: impl FnMut() -> String,
) -> Result<BTreeMap<String, String>, NoPod> {
    let mut properties = BTreeMap::new();
    for item in items {
        let mut text = item.text();
        if text.contains('{') {
            let mut parts = text.split("{uuid}");
            let first = parts.next().unwrap_or_default().to_owned();
            text = parts.fold(first, |text, part| text + &uuid() + part);
            if text.contains("{podName}") {
                if names.pod.is_empty() {
                    return Err(NoPod {
                        property: item.name.clone(),
                    });
                }
                text = text.replace("{podName}", names.pod);
            }
            text = text
                .replace("{namespace}", &format!("{}.{}", names.namespace, names.app_id))
                .replace("{appID}", names.app_id);
        }
        properties.insert(item.name.clone(), text);
    }
    Ok(properties)
}

/// Whether a component's topics or keys depend on the namespace.
pub fn mentions_namespace(items: &[Item]) -> bool {
    items.iter().any(|item| item.text().contains("{namespace}"))
}

#[cfg(test)]
mod tests {
    use super::{Names, NoPod, properties};
    use crate::property::{Dynamic, Item};

    fn item(name: &str, value: &str) -> Item {
        Item {
            name: name.to_owned(),
            value: Some(Dynamic::Json(value.into())),
            ..Item::default()
        }
    }

    #[test]
    fn placeholders() {
        let names = |pod| Names {
            app_id: "shop",
            namespace: "ns1",
            pod,
        };
        let mut count = 0;
        let mut uuid = || {
            count += 1;
            format!("u{count}")
        };
        for (text, expect) in [
            ("plain", "plain"),
            ("{uuid}-{uuid}", "u1-u2"),
            ("{namespace}/{appID}", "ns1.shop/shop"),
            ("{podName}", "p-0"),
            ("{other}", "{other}"),
        ] {
            let found = properties(&[item("x", text)], names("p-0"), &mut uuid).unwrap();
            assert_eq!(found["x"], expect, "{text}");
        }
        assert_eq!(
            properties(&[item("x", "{podName}")], names(""), uuid),
            Err(NoPod {
                property: "x".to_owned()
            })
        );
        let twice = properties(&[item("x", "1"), item("x", "2")], names(""), String::new).unwrap();
        assert_eq!(twice["x"], "2");
    }
}
