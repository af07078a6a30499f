use super::{Headers, Place};
use crate::values::Format;
use crate::wire::batch::{Found, Record};
use bytes::Bytes;
use regex::Regex;

fn headers(escape: bool, exclude: Option<&str>) -> Headers {
    Headers {
        escape,
        exclude: exclude.map(|exclude| Regex::new(exclude).unwrap()),
    }
}

#[test]
fn metadata_choose_the_partition_and_travel() {
    let headers = headers(false, Some("^internal"));
    for (metadata, place, key) in [
        (vec![], Place::Any, None),
        (vec![("partitionKey", "k")], Place::Key, Some("k")),
        (vec![("__key", "k")], Place::Key, Some("k")),
        (vec![("partitionNumber", "3")], Place::Number(3), None),
        (
            vec![("partitionKey", "k"), ("partitionNumber", "0")],
            Place::Number(0),
            Some("k"),
        ),
        (vec![("internal-x", "y")], Place::Any, None),
    ] {
        let (found, record, _) = headers
            .record(Bytes::from_static(b"data"), metadata.iter().copied())
            .unwrap();
        assert_eq!(found, place, "{metadata:?}");
        assert_eq!(record.key.as_deref(), key.map(str::as_bytes));
        let travel = metadata
            .iter()
            .filter(|(name, _)| !name.starts_with("internal"))
            .count();
        assert_eq!(record.headers.len(), travel, "{metadata:?}");
    }
    for (name, value) in [
        ("partitionNumber", "x"),
        ("partitionNumber", "-1"),
        ("valueSchemaType", "Protobuf"),
    ] {
        let refused = headers.record(Bytes::new(), [(name, value)].into_iter());
        assert!(refused.unwrap_err().to_string().contains(name), "{name} {value}");
    }
    for (name, value, expected) in [
        ("valueSchemaType", "None", Format::Plain),
        ("valueSchemaType", "AVRO", Format::Avro),
        ("valueschematype", "Avro", Format::Avro),
        ("other", "Avro", Format::Plain),
    ] {
        let (_, record, format) = headers.record(Bytes::new(), [(name, value)].into_iter()).unwrap();
        assert_eq!((format, record.headers.len()), (expected, 1), "{name} {value}");
    }
}

#[test]
fn null_is_a_tombstone_in_both_directions() {
    let headers = headers(false, None);
    let (_, record, _) = headers
        .record(Bytes::from_static(b"null"), [].into_iter())
        .unwrap();
    assert_eq!(record.value, None);
    let found = Found {
        offset: 0,
        time: 0,
        record,
    };
    assert_eq!(Headers::data(&found), "null");
}

#[test]
fn records_bring_their_own_data_along() {
    let found = Found {
        offset: 12,
        time: 1_700_000_000_000,
        record: Record {
            key: Some(Bytes::from_static(b"a b/\xc3\xa9")),
            value: None,
            headers: vec![
                (Bytes::from_static(b"h"), Bytes::from_static(b"x y&~")),
                (Bytes::from_static(b"skip"), Bytes::from_static(b"z")),
            ],
        },
    };
    for (escape, key, header) in [(false, "a b/\u{e9}", "x y&~"), (true, "a+b%2F%C3%A9", "x+y%26~")] {
        let metadata = headers(escape, Some("^skip$")).metadata("t", 3, &found);
        let found: Vec<(&str, &str)> = metadata.iter().collect();
        assert_eq!(
            found,
            [
                ("__key", key),
                ("__offset", "12"),
                ("__partition", "3"),
                ("__timestamp", "1700000000000"),
                ("__topic", "t"),
                ("h", header),
            ]
        );
    }
}
