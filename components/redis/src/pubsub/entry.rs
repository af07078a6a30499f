//! What the server says of streams: messages and pending ones.

use bytes::Bytes;
use outrigger_component::metadata::Metadata;
use redis::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// A message of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub id: String,
    pub data: Bytes,
    /// The text of a JSON object.
    metadata: Option<Vec<u8>>,
}

/// A message that somebody has read and nobody has acknowledged.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub id: String,
    pub idle: Duration,
}

impl Entry {
    /// # Errors
    /// When the text is no JSON object of texts.
    pub(super) fn metadata(&self) -> Result<Metadata, serde_json::Error> {
        match &self.metadata {
            Some(text) => Ok(serde_json::from_slice::<BTreeMap<String, String>>(text)?
                .into_iter()
                .collect()),
            None => Ok(Metadata::new()),
        }
    }
}

/// The answer to XREADGROUP of one stream; nothing if the time was over. `None` if it is not of that shape.
pub(super) fn read(answer: Value) -> Option<Vec<Entry>> {
    let streams = match answer {
        Value::Nil => return Some(Vec::new()),
        Value::Array(streams) => streams,
        _ => return None,
    };
    let mut entries = Vec::new();
    for stream in streams {
        let [_name, messages] = <[Value; 2]>::try_from(array(stream)?).ok()?;
        entries.extend(claimed(messages)?.into_iter().flatten());
    }
    Some(entries)
}

/// The answer to XCLAIM. `None` stands for messages that are pending and no longer exist, which old servers tell.
pub(super) fn claimed(answer: Value) -> Option<Vec<Option<Entry>>> {
    array(answer)?
        .into_iter()
        .map(|message| {
            if message == Value::Nil {
                Some(None)
            } else {
                entry(message).map(Some)
            }
        })
        .collect()
}

/// The answer to XPENDING with a range.
pub(super) fn pending(answer: Value) -> Option<Vec<Pending>> {
    array(answer)?
        .into_iter()
        .map(|message| {
            let [id, _consumer, idle, _deliveries] = <[Value; 4]>::try_from(array(message)?).ok()?;
            let Value::Int(idle) = idle else { return None };
            Some(Pending {
                id: text(id)?,
                idle: Duration::from_millis(idle.try_into().ok()?),
            })
        })
        .collect()
}

/// The smallest id after this one. `None` after the last possible, or if this is no id.
pub(super) fn after(id: &str) -> Option<String> {
    let (time, number) = id.split_once('-')?;
    let number: u64 = number.parse().ok()?;
    Some(format!("{time}-{}", number.checked_add(1)?))
}

/// A message whose fields are gone (`Nil`) has none.
fn entry(message: Value) -> Option<Entry> {
    let [id, fields] = <[Value; 2]>::try_from(array(message)?).ok()?;
    let mut entry = Entry {
        id: text(id)?,
        data: Bytes::new(),
        metadata: None,
    };
    let mut fields = if fields == Value::Nil {
        Vec::new()
    } else {
        array(fields)?
    }
    .into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        match name {
            Value::BulkString(name) if name == b"data" => entry.data = Bytes::from(bytes(value)?),
            Value::BulkString(name) if name == b"metadata" => entry.metadata = Some(bytes(value)?),
            _ => {}
        }
    }
    Some(entry)
}

fn array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

fn text(value: Value) -> Option<String> {
    String::from_utf8(bytes(value)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn list(values: &[Value]) -> Value {
        Value::Array(values.to_vec())
    }

    #[test]
    fn messages() {
        let message = list(&[
            text("1-0"),
            list(&[
                text("data"),
                text("d"),
                text("other"),
                text("o"),
                text("metadata"),
                text(r#"{"a":"b"}"#),
            ]),
        ]);
        let bare = list(&[text("2-0"), list(&[])]);
        let entries = read(list(&[list(&[text("t"), list(&[message, bare])])])).unwrap();
        assert_eq!(
            entries
                .iter()
                .map(|entry| (entry.id.as_str(), &entry.data[..]))
                .collect::<Vec<_>>(),
            [("1-0", &b"d"[..]), ("2-0", b"")]
        );
        assert_eq!(entries[0].metadata().unwrap(), Metadata::from_iter([("a", "b")]));
        assert!(entries[1].metadata().unwrap().is_empty());
        assert_eq!(read(Value::Nil), Some(Vec::new()), "the time was over");
        assert_eq!(claimed(list(&[Value::Nil])), Some(vec![None]));
        for odd in [
            Value::Int(1),
            list(&[Value::Int(1)]),
            list(&[list(&[text("t")])]),
            list(&[list(&[text("t"), list(&[text("1-0")])])]),
        ] {
            assert_eq!(read(odd.clone()), None, "{odd:?}");
        }
    }

    #[test]
    fn pending_messages() {
        let answer = list(&[list(&[text("1-0"), text("me"), Value::Int(1500), Value::Int(2)])]);
        assert_eq!(
            pending(answer),
            Some(vec![Pending {
                id: "1-0".to_owned(),
                idle: Duration::from_millis(1500)
            }])
        );
        assert_eq!(
            pending(list(&[list(&[
                text("1-0"),
                text("me"),
                Value::Int(-1),
                Value::Int(2)
            ])])),
            None
        );
    }

    #[test]
    fn metadata_that_is_no_object_of_texts() {
        for text in ["", "[]", "{\"a\": 1}"] {
            let entry = Entry {
                id: String::new(),
                data: Bytes::new(),
                metadata: Some(text.into()),
            };
            assert!(entry.metadata().is_err(), "{text}");
        }
    }

    #[test]
    fn ids() {
        for (id, next) in [
            ("1-0", Some("1-1")),
            ("1-9", Some("1-10")),
            ("1-18446744073709551615", None),
            ("1", None),
            ("1-x", None),
        ] {
            assert_eq!(after(id).as_deref(), next, "{id}");
        }
    }
}
