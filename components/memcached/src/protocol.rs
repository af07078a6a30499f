//! The text protocol: how requests are written and answers are read. No I/O.

use bytes::{Bytes, BytesMut};

/// More before the end of a line is no answer of Memcached.
const LONGEST_LINE: usize = 2048;
/// More than any server can be told to keep.
const LARGEST_VALUE: usize = 1 << 30;

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Get {
        key: String,
    },
    Set {
        key: String,
        value: Bytes,
        /// Seconds from now below 30 days, else since 1970; 0 is never.
        expires: u32,
    },
    Delete {
        key: String,
    },
    Version,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Of a get.
    Value(Bytes),
    /// Nothing is stored under the key.
    Absent,
    /// Set, deleted, or there.
    Done,
    /// The server's own words, with its reason in front: `SERVER_ERROR …`, `CLIENT_ERROR …`, `ERROR`.
    Refused(String),
}

/// The peer does not speak this protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unexpected answer {0:?}: is it Memcached that listens there?")]
pub(crate) struct Garbage(pub String);

impl Request {
    pub(crate) fn write(&self, into: &mut BytesMut) {
        match self {
            Self::Get { key } => put(into, &["get ", key, "\r\n"]),
            Self::Delete { key } => put(into, &["delete ", key, "\r\n"]),
            Self::Version => put(into, &["version\r\n"]),
            Self::Set { key, value, expires } => {
                let (expires, length) = (expires.to_string(), value.len().to_string());
                put(into, &["set ", key, " 0 ", &expires, " ", &length, "\r\n"]);
                into.extend_from_slice(value);
                put(into, &["\r\n"]);
            }
        }
    }
}

fn put(into: &mut BytesMut, parts: &[&str]) {
    for part in parts {
        into.extend_from_slice(part.as_bytes());
    }
}

/// Takes the next answer off what has been received. `None` if there is more to come.
pub(crate) fn read(from: &mut BytesMut) -> Result<Option<Answer>, Garbage> {
    let Some(end) = from.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n') else {
        if from.len() >= LONGEST_LINE {
            return Err(garbage(from));
        }
        return Ok(None);
    };
    let line = from.get(..end).unwrap_or_default();
    let line = std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)).map_err(|_| garbage(from))?;
    let (first, _) = line.split_once(' ').unwrap_or((line, ""));
    let answer = match first {
        "VALUE" => {
            let span = value(line, end + 1).ok_or_else(|| garbage(from))?;
            return take(from, span);
        }
        "END" | "NOT_FOUND" => Answer::Absent,
        "STORED" | "DELETED" | "VERSION" => Answer::Done,
        "ERROR" | "CLIENT_ERROR" | "SERVER_ERROR" => Answer::Refused(line.to_owned()),
        _ => return Err(garbage(from)),
    };
    let _line = from.split_to(end + 1);
    Ok(Some(answer))
}

/// Where the content of `VALUE key flags length` begins and ends.
fn value(line: &str, begins: usize) -> Option<(usize, usize)> {
    let length: usize = line.split(' ').nth(3)?.parse().ok()?;
    (length <= LARGEST_VALUE).then_some((begins, begins + length))
}

fn take(from: &mut BytesMut, (begins, ends): (usize, usize)) -> Result<Option<Answer>, Garbage> {
    const TAIL: &[u8] = b"\r\nEND\r\n";
    let all = ends + TAIL.len();
    if from.len() < all {
        from.reserve(all - from.len());
        return Ok(None);
    }
    if from.get(ends..all) != Some(TAIL) {
        return Err(garbage(from));
    }
    let content = from.split_to(all).freeze().slice(begins..ends);
    Ok(Some(Answer::Value(content)))
}

fn garbage(from: &BytesMut) -> Garbage {
    let beginning = from.get(..from.len().min(60)).unwrap_or_default();
    Garbage(String::from_utf8_lossy(beginning).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        for (request, expected) in [
            (Request::Get { key: "k".to_owned() }, "get k\r\n"),
            (Request::Delete { key: "k".to_owned() }, "delete k\r\n"),
            (Request::Version, "version\r\n"),
            (
                Request::Set {
                    key: "k".to_owned(),
                    value: Bytes::from_static(b"a\r\nb"),
                    expires: 7,
                },
                "set k 0 7 4\r\na\r\nb\r\n",
            ),
        ] {
            let mut bytes = BytesMut::new();
            request.write(&mut bytes);
            assert_eq!(bytes, expected);
        }
    }

    /// Answers that come byte by byte are read as those that come at once.
    #[test]
    fn answers() {
        let wire =
            b"STORED\r\nEND\r\nVALUE k 0 7\r\na\r\nEND\r\r\nEND\r\nDELETED\r\nNOT_FOUND\r\nVERSION 1.6\r\n\
            SERVER_ERROR object too large for cache\r\nERROR\r\nVALUE k 3 0 99\r\n\r\nEND\r\n";
        let expected = [
            Answer::Done,
            Answer::Absent,
            Answer::Value(Bytes::from_static(b"a\r\nEND\r")),
            Answer::Done,
            Answer::Absent,
            Answer::Done,
            Answer::Refused("SERVER_ERROR object too large for cache".to_owned()),
            Answer::Refused("ERROR".to_owned()),
            Answer::Value(Bytes::new()),
        ];
        for step in [1, 2, 7, wire.len()] {
            let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
            for piece in wire.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(answer) = read(&mut buffer).unwrap() {
                    found.push(answer);
                }
            }
            assert_eq!(found, expected, "in pieces of {step}");
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn other_protocols() {
        for wire in [
            "HTTP/1.1 400 Bad Request\r\n",
            "-ERR unknown command\r\n",
            "VALUE k 0\r\n",
            "VALUE k 0 -1\r\n",
            "VALUE k 0 99999999999\r\n",
            "VALUE k 0 1\r\nab\r\nEND\r\n",
            "\u{0}\n",
            &"x".repeat(LONGEST_LINE),
        ] {
            let mut buffer = BytesMut::from(wire);
            assert!(read(&mut buffer).is_err(), "{wire:?}");
        }
    }
}
