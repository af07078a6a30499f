//! Keys as names in a bucket.
//!
//! COMPAT(components-contrib state/jetstream): `||` is written as `.`, and what a name may have in it stays as it is. Whatever
//! else a key has, which the reference refuses, is written as `%` and two digits: `%` itself is in no name of theirs.

use std::fmt::Write as _;

/// A valid part of a subject for any key: never empty, without empty parts, blanks or wildcards.
pub(super) fn encode(key: &str) -> String {
    let dotted = key.replace("||", ".");
    let bytes = dotted.as_bytes();
    let mut name = String::with_capacity(dotted.len() + 8);
    for (at, byte) in bytes.iter().enumerate() {
        // A dot stands between two other things, or it makes an empty part.
        let dot = || {
            let ends = at == 0 || at + 1 == bytes.len();
            !ends && at.checked_sub(1).and_then(|before| bytes.get(before)) != Some(&b'.')
        };
        match byte {
            b'-' | b'/' | b'_' | b'=' => name.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => name.push(char::from(*byte)),
            b'.' if dot() => name.push('.'),
            byte => write!(name, "%{byte:02X}").expect("a string grows"),
        }
    }
    if name.is_empty() {
        name.push('%');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::encode;
    use std::collections::HashMap;

    #[test]
    fn names() {
        for (key, name) in [
            ("app||order", "app.order"),
            ("app||a/b_c-d=e.f", "app.a/b_c-d=e.f"),
            ("a||b||c", "a.b.c"),
            ("app||", "app%2E"),
            ("||x", "%2Ex"),
            ("a||||b", "a.%2Eb"),
            ("a...b", "a.%2E%2Eb"),
            ("a b*>", "a%20b%2A%3E"),
            ("a|b", "a%7Cb"),
            ("100%", "100%25"),
            ("\u{e9}", "%C3%A9"),
            ("\r\n\0", "%0D%0A%00"),
            (".", "%2E"),
            ("", "%"),
        ] {
            assert_eq!(encode(key), name, "{key:?}");
        }
    }

    /// Seeded: names are valid parts of subjects, and two keys have one name only if one of them has `||` for the other's dot.
    #[test]
    fn every_key_has_a_name_of_its_own() {
        let mut state = 1_u64;
        let mut random = |most: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % most
        };
        let alphabet = [
            'a', 'B', '7', '.', '|', '%', '2', 'E', ' ', '*', '>', '/', '\u{e9}', '\0', '\n',
        ];
        let mut seen: HashMap<String, String> = HashMap::new();
        for _ in 0..50_000 {
            let key: String = (0..random(7)).map(|_| alphabet[random(alphabet.len())]).collect();
            let name = encode(&key);
            assert!(!name.is_empty(), "{key:?}");
            assert!(name.split('.').all(|part| !part.is_empty()), "{key:?}: {name}");
            let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-/_=.%".contains(&byte);
            assert!(name.bytes().all(fine), "{key:?}: {name}");
            let dotted = key.replace("||", ".");
            if let Some(other) = seen.insert(name, dotted.clone()) {
                assert_eq!(other, dotted);
            }
        }
    }
}
