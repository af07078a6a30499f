//! Properties of messages, from and to metadata.
//!
//! COMPAT(components-contrib common/component/rabbitmq/rabbitmq.go, metadata/utils.go): names, in any case, and values.

use crate::amqp::content::Properties;
use outrigger_component::metadata::{self, Metadata};
use serde::de::value::{Error as Fault, StrDeserializer};
use std::time::Duration;

/// COMPAT: what a message is unless its metadata say otherwise.
const CONTENT_TYPE: &str = "text/plain";

/// What a request's metadata say of its message; times and priorities apart.
pub(crate) fn properties(metadata: &Metadata, delivery_mode: u8) -> Properties {
    let text = |name| metadata.get_any_case(name).unwrap_or_default().to_owned();
    let content_type = metadata
        .get_any_case("contentType")
        .filter(|text| !text.is_empty());
    Properties {
        content_type: content_type.unwrap_or(CONTENT_TYPE).to_owned(),
        delivery_mode,
        correlation_id: text("correlationID"),
        message_id: text("messageID"),
        kind: text("type"),
        ..Properties::default()
    }
}

/// Milliseconds, as AMQP wants them.
pub(crate) fn expiration(time_to_live: Duration) -> String {
    time_to_live.as_millis().to_string()
}

/// Time to live of one message.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn time_to_live(metadata: &Metadata) -> Result<Option<Duration>, String> {
    let text = ["ttl", "ttlInSeconds"]
        .into_iter()
        .find_map(|name| metadata.get_any_case(name).filter(|text| !text.is_empty()));
    let Some(text) = text else { return Ok(None) };
    match text.parse::<i64>() {
        Ok(seconds) if seconds < 0 => Err(format!(
            "ttl value must be higher than zero: actual is '{seconds}'"
        )),
        _ => metadata::duration(StrDeserializer::<Fault>::new(text))
            .map(Some)
            .map_err(|_| format!("ttl value must be a valid integer: actual is '{text}'")),
    }
}

/// Priority of one message; what is out of range is the nearest that is not.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn priority(metadata: &Metadata) -> Result<u8, String> {
    match metadata.get("priority").filter(|text| !text.is_empty()) {
        None => Ok(0),
        Some(text) => text
            .parse::<i64>()
            .map(|number| u8::try_from(number.clamp(0, 255)).unwrap_or(u8::MAX))
            .map_err(|_| format!("priority value must be a valid integer: actual is '{text}'")),
    }
}

/// What a subscriber hears of a message's properties and headers, where it wants to.
pub(crate) fn heard(properties: &Properties) -> Metadata {
    let fixed = [
        ("messageid", &properties.message_id),
        ("correlationid", &properties.correlation_id),
        ("type", &properties.kind),
        ("contenttype", &properties.content_type),
    ];
    let fixed = fixed.into_iter().filter(|(_, text)| !text.is_empty());
    let mut metadata: Metadata = fixed
        .map(|(name, text)| (format!("metadata.{name}"), text.as_str()))
        .collect();
    metadata.extend(
        properties
            .headers
            .iter()
            .filter(|(_, value)| !matches!(value, crate::amqp::wire::Value::Void))
            .map(|(name, value)| (format!("metadata.{name}"), value.to_string())),
    );
    metadata
}

#[cfg(test)]
mod tests {
    use super::{heard, priority, properties, time_to_live};
    use crate::amqp::wire::Value;
    use outrigger_component::metadata::Metadata;
    use std::time::Duration;

    #[test]
    fn times_to_live() {
        for (name, text, expected) in [
            ("ttlInSeconds", "10", Ok(Some(10_000))),
            ("TTLINSECONDS", "1m30s", Ok(Some(90_000))),
            ("ttl", "250ms", Ok(Some(250))),
            ("ttl", "", Ok(None)),
            ("ttl", "-1", Err("higher than zero")),
            ("ttl", "soon", Err("valid integer: actual is 'soon'")),
        ] {
            let found = time_to_live(&Metadata::from_iter([(name, text)]));
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected.map(Duration::from_millis), "{text}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn priorities() {
        for (text, expected) in [
            ("7", Some(7)),
            ("-1", Some(0)),
            ("300", Some(255)),
            ("", Some(0)),
            ("x", None),
        ] {
            let found = priority(&Metadata::from_iter([("priority", text)]));
            assert_eq!(found.ok(), expected, "{text}");
        }
    }

    #[test]
    fn there_and_back() {
        let metadata = Metadata::from_iter([
            ("messageid", "m"),
            ("correlationID", "c"),
            ("Type", "t"),
            ("ContentType", "application/json"),
        ]);
        let mut sent = properties(&metadata, 2);
        assert_eq!(sent.delivery_mode, 2);
        sent.headers.insert("n".to_owned(), Value::Int(5));
        sent.headers.insert("v".to_owned(), Value::Void);
        let expected = [
            ("metadata.messageid", "m"),
            ("metadata.correlationid", "c"),
            ("metadata.type", "t"),
            ("metadata.contenttype", "application/json"),
            ("metadata.n", "5"),
        ];
        assert_eq!(heard(&sent), Metadata::from_iter(expected));
        assert_eq!(properties(&Metadata::new(), 0).content_type, "text/plain");
    }
}
