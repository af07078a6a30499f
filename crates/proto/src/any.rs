//! `google.protobuf.Any`, with a payload that is shared instead of copied.
//!
//! `prost_types::Any` keeps its value in a `Vec<u8>`. Every service invocation carries its body in an `Any`, so
//! that would cost one copy of each body per hop. On the wire both are the same; conversions are provided for
//! the few places that deal in well-known types.

use bytes::Bytes;

/// A message of any type, still encoded, or plain bytes when `type_url` is empty.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Any {
    /// Names the type of `value`: `type.googleapis.com/` and the full message name.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The encoded message, or the bare payload.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

impl Any {
    /// Wraps a payload that is not a protobuf message.
    pub fn from_bytes(value: impl Into<Bytes>) -> Self {
        Self {
            type_url: String::new(),
            value: value.into(),
        }
    }
}

impl prost::Name for Any {
    const NAME: &'static str = "Any";
    const PACKAGE: &'static str = "google.protobuf";
}

impl From<prost_types::Any> for Any {
    fn from(any: prost_types::Any) -> Self {
        Self {
            type_url: any.type_url,
            value: any.value.into(),
        }
    }
}

impl From<Any> for prost_types::Any {
    fn from(any: Any) -> Self {
        Self {
            type_url: any.type_url,
            value: any.value.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message;

    use super::Any;

    #[test]
    fn is_the_well_known_type_on_the_wire() {
        let theirs = prost_types::Any {
            type_url: "type.googleapis.com/a.B".into(),
            value: vec![0, 255, 7],
        };
        let ours = Any::decode(theirs.encode_to_vec().as_slice()).unwrap();
        assert_eq!(ours, Any::from(theirs.clone()));
        assert_eq!(ours.encode_to_vec(), theirs.encode_to_vec());
        assert_eq!(prost_types::Any::from(ours), theirs);
    }

    #[test]
    fn decoding_shares_the_buffer() {
        let encoded = Bytes::from(Any::from_bytes(vec![42; 1024]).encode_to_vec());
        let decoded = Any::decode(encoded.clone()).unwrap();
        let start = encoded.as_ptr() as usize;
        let value = decoded.value.as_ptr() as usize;
        assert!(
            (start..start + encoded.len()).contains(&value),
            "the payload was copied"
        );
    }
}
