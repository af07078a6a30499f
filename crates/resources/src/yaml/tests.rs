//! What words mean is compared with a recording of the reference's two readers (`words.tsv`: the word, then what it
//! becomes as dynamic value, text, boolean and integer of a resource, and as text, boolean and integer of a
//! Configuration; `!` is an error). The rest are tables of our own.

use super::{Dialect, Document, MAX_NODES, decode, parse, split, text};
use crate::property::Dynamic;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Target {
    value: Option<Dynamic>,
    text: String,
    flag: bool,
    num: i64,
    small: i32,
}

fn read(field: &str, word: &str, dialect: Dialect) -> Result<Target, super::Error> {
    let node = parse(&format!("{field}: {word}\n"), dialect)?;
    decode(&node, dialect)
}

#[test]
fn words_mean_what_they_mean_to_the_reference() {
    let table = include_str!("tests/words.tsv");
    let mut wrong = Vec::new();
    for row in table.lines() {
        let cells: Vec<String> = row
            .split('\t')
            .map(|cell| serde_json::from_str(cell).unwrap())
            .collect();
        let [
            word,
            value,
            resource_text,
            resource_flag,
            resource_num,
            text,
            flag,
            num,
        ] = cells.try_into().unwrap();
        for (field, dialect, expect) in [
            ("value", Dialect::Resource, value),
            ("text", Dialect::Resource, resource_text),
            ("flag", Dialect::Resource, resource_flag),
            ("num", Dialect::Resource, resource_num),
            ("text", Dialect::Configuration, text),
            ("flag", Dialect::Configuration, flag),
            ("small", Dialect::Configuration, num),
        ] {
            let found = match read(field, &word, dialect) {
                Err(_) => "!".to_owned(),
                Ok(target) => match field {
                    "value" => target.value.map(|value| value.text()).unwrap_or_default(),
                    "text" => target.text,
                    "flag" => target.flag.to_string(),
                    "small" => target.small.to_string(),
                    _ => target.num.to_string(),
                },
            };
            if found != expect {
                wrong.push(format!(
                    "{word:?} as {field} of {dialect:?}: expected {expect:?}, found {found:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn shapes() {
    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Shape {
        list: Vec<String>,
        map: BTreeMap<String, i32>,
        inner: Inner,
        option: Option<bool>,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(default)]
    struct Inner {
        name: String,
        #[serde(rename = "dnsName")]
        dns: String,
    }
    impl Default for Inner {
        fn default() -> Self {
            Self {
                name: "unset".to_owned(),
                dns: String::new(),
            }
        }
    }
    let inner = |name: &str, dns: &str| Shape {
        inner: Inner {
            name: name.to_owned(),
            dns: dns.to_owned(),
        },
        ..Shape::default()
    };
    let list = |items: &[&str]| Shape {
        list: items.iter().map(|item| (*item).to_owned()).collect(),
        ..Shape::default()
    };
    let map = |items: &[(&str, i32)]| Shape {
        map: items
            .iter()
            .map(|(key, value)| ((*key).to_owned(), *value))
            .collect(),
        ..Shape::default()
    };
    let (resource, configuration) = (Dialect::Resource, Dialect::Configuration);
    for (text, dialect, expect) in [
        ("", resource, Ok(Shape::default())),
        ("# only a comment", resource, Ok(Shape::default())),
        ("null", configuration, Ok(Shape::default())),
        ("list: [a, 1, yes]", resource, Ok(list(&["a", "1", "true"]))),
        ("list: [a, 1, yes]", configuration, Ok(list(&["a", "1", "yes"]))),
        ("list: null", resource, Ok(Shape::default())),
        (
            "list: a",
            resource,
            Err("line 1: list: expected a list, found text"),
        ),
        (
            "list:\n- a\n- [b]",
            resource,
            Err("line 3: list[1]: expected text, found a list"),
        ),
        ("map: {a: 1, b: null}", resource, Ok(map(&[("a", 1), ("b", 0)]))),
        ("map: {a: 1, a: 2}", resource, Ok(map(&[("a", 2)]))),
        (
            "map:\n  a: 1\n  a: 2",
            configuration,
            Err("line 3: mapping key \"a\" already defined at line 2"),
        ),
        (
            "map: {a: 4294967296}",
            resource,
            Err("line 1: map.a: invalid value: integer `4294967296`, expected i32"),
        ),
        ("unknown: {x: 1}\ninner: {name: x}", resource, Ok(inner("x", ""))),
        ("inner: {name: null}", resource, Ok(inner("unset", ""))),
        ("INNER: {Name: x, DNSname: d}", resource, Ok(inner("x", "d"))),
        (
            "inner: {Name: upper, name: lower}",
            resource,
            Ok(inner("lower", "")),
        ),
        ("inner: {Name: n}", configuration, Ok(inner("unset", ""))),
        (
            "option: yes",
            configuration,
            Ok(Shape {
                option: Some(true),
                ..Shape::default()
            }),
        ),
        (
            "option: 'true'",
            resource,
            Err("line 1: option: expected true or false without quotes, found text"),
        ),
        (
            "base: &b {name: base, dnsName: d}\ninner:\n  <<: *b\n  name: own",
            resource,
            Ok(inner("own", "d")),
        ),
        (
            "inner:\n  name: own\n  <<: [{name: x}, {dnsName: y}]",
            configuration,
            Ok(inner("own", "y")),
        ),
        (
            "inner: {<<: 1}",
            resource,
            Err("line 1: map merge requires map or sequence of maps as the value"),
        ),
        ("a: &x 7\nmap: {k: *x}", resource, Ok(map(&[("k", 7)]))),
        ("[1]", resource, Err("line 1: expected a mapping, found a list")),
        ("map: {k: 1}\n...\nmap: {k: 2}", resource, Ok(map(&[("k", 1)]))),
    ] {
        let found = parse(text, dialect)
            .and_then(|node| decode::<Shape>(&node, dialect))
            .map_err(|error| error.to_string());
        assert_eq!(found, expect.map_err(str::to_owned), "{text:?}");
    }
}

#[test]
fn documents_are_cut_at_separators() {
    let cut = |text| {
        split(text)
            .map(|d: Document<'_>| (d.lines_before, d.text))
            .collect::<Vec<_>>()
    };
    for (text, expect) in [
        ("", vec![(0, "")]),
        ("a: 1", vec![(0, "a: 1")]),
        ("---\na: 1\n", vec![(0, "---\na: 1\n")]),
        ("a: 1\n---\nb: 2\n", vec![(0, "a: 1"), (2, "b: 2\n")]),
        (
            "a: 1\r\n--- # next\r\nb: 2\n---",
            vec![(0, "a: 1\r"), (2, "b: 2")],
        ),
        ("a\n---\n---\nb", vec![(0, "a"), (2, "---\nb")]),
        (
            "a: |\n  x\n  ---\n  y\n---\nb",
            vec![(0, "a: |\n  x\n  ---\n  y"), (5, "b")],
        ),
    ] {
        assert_eq!(cut(text), expect, "{text:?}");
    }
    assert_eq!(text(b"\xef\xbb\xbfa").unwrap(), "a");
    assert_eq!(text(b"a\n\xff").unwrap_err().line, Some(2));
}

#[test]
fn bounded() {
    let bomb = |levels: usize, width: usize| {
        let mut text = "a0: &a0 x\n".to_owned();
        for level in 1..levels {
            let items = vec![format!("*a{}", level - 1); width].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        text
    };
    assert!(parse(&bomb(4, 9), Dialect::Resource).is_ok());
    let wide = format!("a: [{}]", "x,".repeat(MAX_NODES));
    for text in [
        bomb(12, 9),
        wide,
        "[".repeat(5000),
        "a: ".repeat(300),
        format!("{}x", "- ".repeat(200)),
        "x".repeat(super::MAX_BYTES + 1),
    ] {
        assert!(parse(&text, Dialect::Resource).is_err(), "{:.40}", text);
    }
}

/// Any bytes end in a value or an error. Cheap and seeded; the fuzz target goes further.
#[test]
fn mutations_never_panic() {
    let seeds = [
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: a\nspec:\n  type: state.x\n  metadata:\n  - name: k\n    value: \"v\"\n",
        "a: &x {b: [1, 2.5, yes], c: |\n  text\n}\nd: *x\n<<: *x\n---\n? k\n: !!int 3\n",
        "spec: {tracing: {samplingRate: 1}, metric: {http: null}}\n",
    ];
    let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below.max(1) as u64).unwrap()
    };
    let alphabet = b"{}[]:-&*!|>'\"%@`#?,~<\n\t \\0aN.\xff\xc3\xa9\x00";
    for round in 0..4000 {
        let mut bytes = seeds[round % seeds.len()].as_bytes().to_vec();
        for _ in 0..=next(8) {
            let at = next(bytes.len());
            let byte = alphabet[next(alphabet.len())];
            match next(4) {
                0 => bytes.insert(at, byte),
                1 => drop(bytes.splice(at..at, bytes.clone().into_iter().take(20))),
                2 if !bytes.is_empty() => drop(bytes.remove(at)),
                _ if !bytes.is_empty() => bytes[at] = byte,
                _ => {}
            }
        }
        let Ok(text) = text(&bytes) else { continue };
        let documents = crate::disk::Documents::of_text("seed.yaml", text);
        documents.load::<crate::component::Component>();
        documents.load::<crate::subscription::Subscription>();
        documents.load::<crate::resiliency::Resiliency>();
        let _ = crate::configuration::Configuration::parse([("seed.yaml", text)]);
    }
}

#[test]
fn quoted_text_may_begin_its_lines_anywhere() {
    for (text, expected) in [
        (
            "a:\n - v: '{\n\t  \"x\": \"y\",\n\t\t\"z\": 1\n\t}'\n   w: 2",
            Some("{ \"x\": \"y\", \"z\": 1 }"),
        ),
        ("a:\n - v: \"one\ntwo\n\n three\"", Some("one two\nthree")),
        ("a:\n - v: \"one\\\n\t two\"", Some("onetwo")),
        // Outside of quotes, tabs stay what they are: no indentation.
        ("a:\n\t- v: 1", None),
        ("a:\n - v: 'x\n\ty'\n\tw: 2", None),
        ("a:\n - v: 'x\n\ty", None),
    ] {
        for dialect in [Dialect::Resource, Dialect::Configuration] {
            let found = parse(text, dialect);
            let Some(expected) = expected else {
                assert!(found.is_err(), "{text}");
                continue;
            };
            let node = found.unwrap_or_else(|error| panic!("{text}: {error}"));
            let decoded: serde_json::Value = decode(&node, dialect).unwrap();
            assert_eq!(decoded["a"][0]["v"], expected, "{text}");
        }
    }
}
