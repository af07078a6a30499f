use super::{Json, Schema, shortest};
use bytes::{Bytes, BytesMut};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

/// Schema, kind of JSON, a value, its bytes, and how it is written from them: what goavro 2.14.1 itself said.
const VALUES: &str = include_str!("tests/values.tsv");

const CAKE: &str = r#"{"type": "record", "name": "cupcake", "fields": [
    {"name": "flavor", "type": "string"},
    {"name": "weight", "type": {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}},
    {"name": "created", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}], "default": null}]}"#;
const LIST: &str = r#"{"type": "record", "name": "List", "fields": [
    {"name": "next", "type": ["null", "List"], "default": null}]}"#;
const OR_TEXT: &str = r#"["null", "string"]"#;

fn encoded(schema: &Schema, json: Json, text: &str) -> Result<Bytes, String> {
    let mut bytes = BytesMut::new();
    let outcome = schema.encode(text.as_bytes(), json, &mut bytes);
    outcome
        .map(|()| bytes.freeze())
        .map_err(|fault| fault.to_string())
}

fn decoded(schema: &Schema, json: Json, bytes: &[u8]) -> Result<String, String> {
    let text = schema.decode(Bytes::copy_from_slice(bytes), json);
    text.map(|text| String::from_utf8(text).unwrap())
        .map_err(|fault| fault.to_string())
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.trim_matches('-').as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// The same text, but for escapes and the order of fields, which do not count.
fn same(one: &str, other: &str) -> bool {
    let value = |text| serde_json::from_str::<Value>(text);
    match (value(one), value(other)) {
        (Ok(Value::Number(_)), Ok(Value::Number(_))) | (Err(_), Err(_)) => one == other,
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn values() -> impl Iterator<Item = (Schema, Json, &'static str, Vec<u8>, &'static str)> {
    VALUES.lines().map(|line| {
        let parts: Vec<&str> = line.split('\t').collect();
        let [schema, json, value, bytes, text] = parts[..] else {
            panic!("five columns: {line}");
        };
        let json = if json == "Avro" { Json::Avro } else { Json::Plain };
        (
            Schema::parse(schema).expect(schema),
            json,
            value,
            hex(bytes),
            text,
        )
    })
}

#[test]
fn values_are_goavro_s() {
    let mut count = 0;
    for (schema, json, value, bytes, text) in values() {
        assert_eq!(
            encoded(&schema, json, value).as_deref(),
            Ok(&bytes[..]),
            "{value} {schema:?}"
        );
        let back = decoded(&schema, json, &bytes).expect(text);
        assert!(same(&back, text), "{back} is not {text}");
        let again = encoded(&schema, json, &back);
        assert_eq!(again.as_deref(), Ok(&bytes[..]), "{back}");
        count += 1;
    }
    assert!(count > 50, "{count}");
}

/// Schemas and values of strangers: what can be read is JSON, and nothing panics. The harm is random, and the same in each run.
#[test]
fn no_value_and_no_schema_brings_the_reader_down() {
    let mut random = SmallRng::seed_from_u64(11);
    let mut read = 0;
    for line in VALUES.lines() {
        let text = line.split('\t').next().unwrap_or_default();
        let whole = Schema::parse(text).expect(text);
        let bytes = hex(line.split('\t').nth(3).unwrap_or_default());
        for _ in 0..200 {
            let mut harmed = text.as_bytes().to_vec();
            harm(&mut random, &mut harmed);
            let other = Schema::parse(&String::from_utf8_lossy(&harmed)).ok();
            let mut value = bytes.clone();
            harm(&mut random, &mut value);
            for schema in [Some(&whole), other.as_ref()].into_iter().flatten() {
                for json in [Json::Plain, Json::Avro] {
                    let Ok(text) = decoded(schema, json, &value) else {
                        continue;
                    };
                    // Numbers that JSON can write down and this reader cannot hold are none of its mistakes.
                    let parsed = serde_json::from_str::<Value>(&text);
                    assert!(parsed.is_ok() || text.contains("1e999"), "{schema:?}: {text}");
                    drop(encoded(schema, json, &text));
                    read += 1;
                }
            }
        }
    }
    assert!(read > 1000, "{read}");
}

/// Some bytes become others, are lost, or are there twice.
fn harm(random: &mut SmallRng, bytes: &mut Vec<u8>) {
    for _ in 0..random.random_range(1..4) {
        let Some(last) = bytes.len().checked_sub(1) else {
            return bytes.push(random.random());
        };
        let place = random.random_range(0..=last);
        match random.random_range(0..4) {
            0 => drop(bytes.remove(place)),
            1 => bytes.insert(place, bytes[place]),
            _ => bytes[place] = random.random(),
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_place() {
    for (schema, json, value, expected) in [
        (r#""int""#, Json::Plain, "1.5", "it is not an int"),
        (r#""int""#, Json::Plain, "2147483648", "it is not an int"),
        (r#""int""#, Json::Plain, r#""1""#, "it is not an int"),
        (r#""long""#, Json::Plain, "5 6", "not JSON"),
        (r#"["int", "long"]"#, Json::Plain, "1e3", "no branch"),
        (r#""double""#, Json::Plain, "1e400", "it is not a double"),
        (r#""float""#, Json::Plain, "1e39", "it is not a float"),
        (r#""boolean""#, Json::Plain, "1", "it is not a boolean"),
        (r#""null""#, Json::Plain, "0", "it is not null"),
        (r#""string""#, Json::Plain, "5", "it is not text"),
        (r#""string""#, Json::Plain, r#""\ud800""#, "it is not text"),
        (r#""bytes""#, Json::Plain, "[1]", "it is not bytes"),
        (r#""bytes""#, Json::Plain, r#""\u0100""#, "it is not bytes"),
        (
            r#"{"type": "fixed", "name": "F", "size": 3}"#,
            Json::Plain,
            r#""ab""#,
            "2 bytes instead of 3",
        ),
        (
            r#"{"type": "enum", "name": "E", "symbols": ["A"]}"#,
            Json::Plain,
            r#""C""#,
            "none of the enum's symbols",
        ),
        (
            r#"{"type": "map", "values": "int"}"#,
            Json::Plain,
            r#"{"k": 1, "k": 2}"#,
            "twice",
        ),
        (
            r#"{"type": "map", "values": "int"}"#,
            Json::Plain,
            r#"{"k": "x"}"#,
            "k: it is not an int",
        ),
        (
            r#"{"type": "array", "items": "int"}"#,
            Json::Plain,
            r#"[1, "x"]"#,
            "[1]: it is not an int",
        ),
        (
            r#"{"type": "string", "logicalType": "validated-string", "pattern": "^a+$"}"#,
            Json::Plain,
            r#""ab""#,
            "does not match",
        ),
        (CAKE, Json::Plain, "", "not JSON"),
        (CAKE, Json::Plain, "[]", "it is not an object"),
        (
            CAKE,
            Json::Plain,
            r#"{"flavor": "x"}"#,
            "weight: the field is missing and has no default",
        ),
        (
            CAKE,
            Json::Plain,
            r#"{"flavor": "x", "weight": "", "more": 1}"#,
            "more: the schema has no such field",
        ),
        (
            CAKE,
            Json::Plain,
            r#"{"flavor": "x", "flavor": "y", "weight": ""}"#,
            "twice",
        ),
        (
            CAKE,
            Json::Plain,
            r#"{"flavor": "x", "weight": "", "created": "soon"}"#,
            "created: it is not a long",
        ),
        (
            CAKE,
            Json::Avro,
            r#"{"flavor": "x", "weight": "", "created": 5}"#,
            "created: it is not an object",
        ),
        (
            LIST,
            Json::Avro,
            r#"{"next": {"List": {"next": 1}}}"#,
            "next.List.next: ",
        ),
        (OR_TEXT, Json::Plain, "5", "it is not text"),
        (OR_TEXT, Json::Avro, r#""x""#, "named like a branch"),
        (
            OR_TEXT,
            Json::Avro,
            r#"{"string": "x", "null": null}"#,
            "one member",
        ),
        (
            OR_TEXT,
            Json::Avro,
            r#"{"bytes": "x"}"#,
            "bytes: the union has no such branch",
        ),
    ] {
        let schema = Schema::parse(schema).expect(schema);
        let fault = encoded(&schema, json, value).expect_err(value);
        assert!(fault.contains(expected), "{value}: {fault}");
    }
    let text = Schema::parse(r#""string""#).unwrap();
    let fault = text.encode(b"\"\xff\"", Json::Plain, &mut BytesMut::new());
    assert!(fault.unwrap_err().to_string().contains("UTF-8"));
}

#[test]
fn bytes_that_do_not_fit_are_refused_with_their_place() {
    for (schema, bytes, expected) in [
        (r#""boolean""#, "02", "neither 0 nor 1"),
        (r#""int""#, "ffffffffffffffffff01", "an int is too large"),
        (
            r#""long""#,
            "ffffffffffffffffffff01",
            "a number is not as it should be",
        ),
        (r#""long""#, "ff", "ends too early"),
        (r#""double""#, "00", "ends too early"),
        (r#""string""#, "08ab", "ends too early"),
        (r#""bytes""#, "03", "ends too early"),
        (r#""bytes""#, "01", "ends too early"),
        (OR_TEXT, "04", "no branch of this number"),
        (OR_TEXT, "01", "no branch of this number"),
        (
            r#"{"type": "enum", "name": "E", "symbols": ["A"]}"#,
            "02",
            "no symbol of this number",
        ),
        (
            r#"{"type": "fixed", "name": "F", "size": 9}"#,
            "00",
            "ends too early",
        ),
        (r#"{"type": "array", "items": "int"}"#, "0402", "[1]: "),
        (r#"{"type": "map", "values": "int"}"#, "04026b02026b0200", "twice"),
        (CAKE, "0278", "weight: "),
    ] {
        let schema = Schema::parse(schema).expect(schema);
        let fault = decoded(&schema, Json::Plain, &hex(bytes)).expect_err(bytes);
        assert!(fault.contains(expected), "{bytes}: {fault}");
    }
    for (schema, bytes, expected) in [
        // Blocks may say how many bytes they are, and there may be several.
        (
            r#"{"type": "array", "items": "int"}"#,
            "0304020404060800",
            "[1,2,3,4]",
        ),
        (
            r#"{"type": "map", "values": "int"}"#,
            "01080261020202620400",
            r#"{"a":1,"b":2}"#,
        ),
        // What follows is somebody else's.
        (r#""int""#, "02ffff", "1"),
        (r#""string""#, "02ff", "\"\u{fffd}\""),
    ] {
        let schema = Schema::parse(schema).expect(schema);
        assert_eq!(
            decoded(&schema, Json::Plain, &hex(bytes)).as_deref(),
            Ok(expected),
            "{bytes}"
        );
    }
}

#[test]
fn schemas_that_make_no_sense_are_refused() {
    let field = |field: &str| format!(r#"{{"type": "record", "name": "R", "fields": [{field}]}}"#);
    for (schema, expected) in [
        ("x".to_owned(), "not JSON"),
        ("1".to_owned(), "neither text, object nor list"),
        (r#""Other""#.to_owned(), "type \"Other\" is not defined"),
        ("[]".to_owned(), "no branches"),
        (r#"["null", ["int"]]"#.to_owned(), "branch of another"),
        (r#"["int", "int"]"#.to_owned(), "two branches int"),
        ("{}".to_owned(), "has no \"type\""),
        (r#"{"type": "array"}"#.to_owned(), "items"),
        (r#"{"type": "map"}"#.to_owned(), "values"),
        (
            r#"{"type": "enum", "name": "E"}"#.to_owned(),
            "enum E has no \"symbols\"",
        ),
        (r#"{"type": "fixed", "name": "F", "size": 0}"#.to_owned(), "size"),
        (r#"{"type": "record", "fields": []}"#.to_owned(), "has no name"),
        (
            r#"{"type": "record", "name": "R"}"#.to_owned(),
            "record R has no list",
        ),
        (field("{}"), "a field of record R has no name"),
        (
            field(r#"{"name": "a", "type": "int"}, {"name": "a", "type": "int"}"#),
            "two fields a",
        ),
        (field(r#"{"name": "a", "type": "x"}"#), "a: type \"x\""),
        (
            field(r#"{"name": "a", "type": "int", "default": "x"}"#),
            "a.default: it is not an int",
        ),
        (
            field(r#"{"name": "a", "type": ["string", "null"], "default": null}"#),
            "a.default: it is not text",
        ),
        (
            field(r#"{"name": "a", "type": "R", "default": {}}"#),
            "levels deep",
        ),
        (
            r#"{"type": "string", "logicalType": "validated-string", "pattern": "("}"#.to_owned(),
            "pattern",
        ),
    ] {
        let fault = Schema::parse(&schema).expect_err(&schema).to_string();
        assert!(fault.contains(expected), "{schema}: {fault}");
    }
}

#[test]
fn defaults_are_the_first_branch_s_and_their_bytes_code_points() {
    let schema = r#"{"type": "record", "name": "R", "fields": [
        {"name": "b", "type": "bytes", "default": "\u00ff"},
        {"name": "in", "default": {"u": "x"}, "type": {"type": "record", "name": "In", "fields": [
            {"name": "u", "type": ["string", "null"]}, {"name": "n", "type": "int", "default": 1}]}}]}"#;
    let schema = Schema::parse(schema).unwrap();
    assert_eq!(
        encoded(&schema, Json::Plain, "{}").as_deref(),
        Ok(&hex("02ff00027802")[..])
    );
    let zero = r#"{"type": "fixed", "name": "D", "size": 2, "logicalType": "decimal", "precision": 4}"#;
    let zero = Schema::parse(zero).unwrap();
    assert_eq!(
        encoded(&zero, Json::Plain, r#""\u0000\u0000""#).as_deref(),
        Ok(&[0, 0][..])
    );
}

#[test]
fn numbers_are_as_short_as_can_be() {
    for (number, expected) in [
        (&[][..], &[0][..]),
        (&[0, 0], &[0]),
        (&[0, 0x7f], &[0x7f]),
        (&[0, 0x80], &[0, 0x80]),
        (&[0xff, 0xff], &[0xff]),
        (&[0xff, 0x7f], &[0xff, 0x7f]),
        (&[0xff, 0x80, 0], &[0x80, 0]),
    ] {
        assert_eq!(shortest(number), expected, "{number:?}");
    }
}

#[test]
fn damaged_values_never_panic() {
    for (schema, json, _, bytes, _) in values() {
        for length in 0..bytes.len() {
            let _refused_or_not = decoded(&schema, json, &bytes[..length]);
        }
        for place in 0..bytes.len() {
            for flip in [0x01, 0x02, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[place] ^= flip;
                let _refused_or_not = decoded(&schema, json, &damaged);
            }
        }
    }
}

#[test]
fn a_few_bytes_do_not_become_a_gigabyte() {
    let nulls = Schema::parse(r#"{"type": "array", "items": "null"}"#).unwrap();
    // 2^40 nulls.
    let fault = decoded(&nulls, Json::Plain, &hex("80808080804000")).unwrap_err();
    assert!(fault.contains("64 MiB"), "{fault}");
    let list = Schema::parse(LIST).unwrap();
    let fault = decoded(&list, Json::Plain, &[2; 4096]).unwrap_err();
    assert!(fault.contains("levels deep"), "{fault}");
    let deep = r#"{"next":"#.repeat(5000) + "null" + &"}".repeat(5000);
    let fault = encoded(&list, Json::Plain, &deep).unwrap_err();
    assert!(
        fault.contains("levels deep") || fault.contains("recursion"),
        "{fault}"
    );
    // Two branches per level that differ at the bottom only.
    let twice = r#"{"type": "record", "name": "A", "fields": [{"name": "n", "type": ["null", "A",
        {"type": "record", "name": "B", "fields": [{"name": "n", "type": ["null", "A", "B"]}]}]}]}"#;
    let twice = Schema::parse(twice).unwrap();
    let deep = r#"{"n":"#.repeat(60) + "5" + &"}".repeat(60);
    let fault = encoded(&twice, Json::Plain, &deep).unwrap_err();
    assert!(fault.contains("too long"), "{fault}");
}
