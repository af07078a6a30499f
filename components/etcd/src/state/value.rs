//! How values are laid out.
//!
//! COMPAT(components-contrib state/etcd/schema.go, common/proto/state/etcd/v2/value.proto). The reference writes a lifetime of
//! zero where there is none; so a zero is none here, and none is written.

use bytes::Bytes;
use jiff::Timestamp;
use outrigger_component::metadata::Metadata;
use prost::{DecodeError, Message};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Schema {
    /// Version `v1`: the bytes as they are.
    Plain,
    /// Version `v2`: with when it was written and how long it lives.
    Stamped,
}

#[derive(Clone, PartialEq, Message)]
struct Stamped {
    #[prost(bytes = "bytes", tag = "1")]
    data: Bytes,
    #[prost(message, optional, tag = "2")]
    written: Option<Span>,
    #[prost(message, optional, tag = "3")]
    ttl: Option<Span>,
}

/// `google.protobuf.Timestamp` and `google.protobuf.Duration`, which look the same.
#[derive(Clone, Copy, PartialEq, Message)]
struct Span {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl Schema {
    /// `ttl` in seconds.
    pub(super) fn encode(self, data: Bytes, ttl: Option<u32>) -> Bytes {
        match self {
            Self::Plain => data,
            Self::Stamped => {
                let now = Timestamp::now();
                let value = Stamped {
                    data,
                    written: Some(Span {
                        seconds: now.as_second(),
                        nanos: now.subsec_nanosecond(),
                    }),
                    ttl: ttl.map(|seconds| Span {
                        seconds: i64::from(seconds),
                        nanos: 0,
                    }),
                };
                Bytes::from(value.encode_to_vec())
            }
        }
    }

    /// The value, and `ttlExpireTime` if it is known.
    pub(super) fn decode(self, stored: Bytes) -> Result<(Bytes, Metadata), DecodeError> {
        let mut metadata = Metadata::new();
        if self == Self::Plain {
            return Ok((stored, metadata));
        }
        let Stamped { data, written, ttl } = Stamped::decode(stored)?;
        if let (Some(written), Some(ttl)) = (written, ttl)
            && (ttl.seconds, ttl.nanos) != (0, 0)
        {
            let nanos = written.nanos.saturating_add(ttl.nanos);
            let seconds = written
                .seconds
                .saturating_add(ttl.seconds)
                .saturating_add(i64::from(nanos.div_euclid(1_000_000_000)));
            if let Ok(expiry) = Timestamp::from_second(seconds) {
                metadata.insert("ttlExpireTime", expiry.to_string());
            }
        }
        Ok((data, metadata))
    }
}

#[cfg(test)]
mod tests {
    use super::{Schema, Span, Stamped};
    use bytes::Bytes;
    use prost::Message;

    #[test]
    fn what_is_encoded_is_decoded() {
        for data in [&b""[..], b"x", b"\0\xff", b"{\"a\":1}"] {
            let data = Bytes::from_static(data);
            for (schema, ttl, expires) in [
                (Schema::Plain, None, false),
                (Schema::Plain, Some(5), false),
                (Schema::Stamped, None, false),
                (Schema::Stamped, Some(5), true),
                (Schema::Stamped, Some(u32::MAX), true),
            ] {
                let (read, metadata) = schema.decode(schema.encode(data.clone(), ttl)).unwrap();
                assert_eq!(read, data, "{schema:?}");
                assert_eq!(
                    metadata.get("ttlExpireTime").is_some(),
                    expires,
                    "{schema:?} {ttl:?}"
                );
            }
        }
    }

    /// Bytes as the reference writes them: data, a time, a lifetime.
    #[test]
    fn values_of_the_reference() {
        let written = b"\x0a\x01x\x12\x06\x08\x80\xe2\xcf\xaa\x06";
        for (ttl, expiry) in [
            (&b"\x1a\x02\x08\x0a"[..], Some("2023-11-14T22:13:30Z")),
            // None: an empty message.
            (b"\x1a\x00", None),
            (b"", None),
        ] {
            let stored = Bytes::from([&written[..], ttl].concat());
            let (data, metadata) = Schema::Stamped.decode(stored).unwrap();
            assert_eq!(data, "x");
            assert_eq!(metadata.get("ttlExpireTime"), expiry, "{ttl:?}");
        }
    }

    #[test]
    fn odd_values() {
        assert!(Schema::Stamped.decode(Bytes::from_static(b"plain")).is_err());
        let far = Stamped {
            data: Bytes::new(),
            written: Some(Span {
                seconds: i64::MAX,
                nanos: i32::MAX,
            }),
            ttl: Some(Span {
                seconds: i64::MAX,
                nanos: i32::MAX,
            }),
        };
        let (_, metadata) = Schema::Stamped.decode(Bytes::from(far.encode_to_vec())).unwrap();
        assert!(metadata.is_empty(), "no time that exists");
    }
}
