//! The status of a gRPC app as an HTTP answer: a status code, and the `google.rpc.Status` as JSON.
//!
//! Sources: google/rpc/code.proto, google/rpc/error_details.proto, the protobuf JSON mapping.
//! COMPAT(pkg/messaging/v1/util.go): the table of codes. Unlike there, a detail of a type we do not know is no failure
//! of its own: its bytes are shown as `value`, in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::StatusCode;
use outrigger_proto::any::Any;
use outrigger_proto::google::rpc::{
    BadRequest, DebugInfo, ErrorInfo, Help, LocalizedMessage, RequestInfo, ResourceInfo,
};
use prost::Message;
use serde_json::{Map, Value, json};

pub(super) fn http(code: i32) -> StatusCode {
    match code {
        0 => StatusCode::OK,
        1 => StatusCode::REQUEST_TIMEOUT,
        3 | 9 | 11 => StatusCode::BAD_REQUEST,
        4 => StatusCode::GATEWAY_TIMEOUT,
        5 => StatusCode::NOT_FOUND,
        6 | 10 => StatusCode::CONFLICT,
        7 => StatusCode::FORBIDDEN,
        8 => StatusCode::TOO_MANY_REQUESTS,
        12 => StatusCode::NOT_IMPLEMENTED,
        14 => StatusCode::SERVICE_UNAVAILABLE,
        16 => StatusCode::UNAUTHORIZED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Fields that have their default value are left out. `details` are encoded `google.protobuf.Any`.
pub(super) fn json(code: i32, message: &str, details: &[Bytes]) -> Bytes {
    let mut status = Map::new();
    if code != 0 {
        status.insert("code".to_owned(), code.into());
    }
    text(&mut status, "message", message);
    if !details.is_empty() {
        status.insert("details".to_owned(), details.iter().map(detail).collect());
    }
    Value::Object(status).to_string().into()
}

fn detail(any: &Bytes) -> Value {
    let any = match Any::decode(any.clone()) {
        Ok(any) => any,
        Err(_) => Any {
            type_url: String::new(),
            value: any.clone(),
        },
    };
    let mut shown = Map::new();
    shown.insert("@type".to_owned(), any.type_url.as_str().into());
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    match fields(name, any.value.clone()) {
        Some(fields) => shown.extend(fields),
        None => {
            shown.insert("value".to_owned(), BASE64.encode(&any.value).into());
        }
    }
    Value::Object(shown)
}

/// The message's fields, if we know the type and the bytes are of it.
fn fields(name: &str, value: Bytes) -> Option<Map<String, Value>> {
    let mut fields = Map::new();
    match name {
        "google.rpc.ErrorInfo" => {
            let info = ErrorInfo::decode(value).ok()?;
            text(&mut fields, "reason", &info.reason);
            text(&mut fields, "domain", &info.domain);
            if !info.metadata.is_empty() {
                fields.insert("metadata".to_owned(), json!(info.metadata));
            }
        }
        "google.rpc.ResourceInfo" => {
            let info = ResourceInfo::decode(value).ok()?;
            text(&mut fields, "resourceType", &info.resource_type);
            text(&mut fields, "resourceName", &info.resource_name);
            text(&mut fields, "owner", &info.owner);
            text(&mut fields, "description", &info.description);
        }
        "google.rpc.BadRequest" => {
            let violations = BadRequest::decode(value).ok()?.field_violations;
            let shown = violations
                .iter()
                .map(|it| [("field", &*it.field), ("description", &*it.description)]);
            list(&mut fields, "fieldViolations", shown);
        }
        "google.rpc.Help" => {
            let links = Help::decode(value).ok()?.links;
            let shown = links
                .iter()
                .map(|it| [("description", &*it.description), ("url", &*it.url)]);
            list(&mut fields, "links", shown);
        }
        "google.rpc.LocalizedMessage" => {
            let message = LocalizedMessage::decode(value).ok()?;
            text(&mut fields, "locale", &message.locale);
            text(&mut fields, "message", &message.message);
        }
        "google.rpc.RequestInfo" => {
            let info = RequestInfo::decode(value).ok()?;
            text(&mut fields, "requestId", &info.request_id);
            text(&mut fields, "servingData", &info.serving_data);
        }
        "google.rpc.DebugInfo" => {
            let info = DebugInfo::decode(value).ok()?;
            if !info.stack_entries.is_empty() {
                fields.insert("stackEntries".to_owned(), info.stack_entries.into());
            }
            text(&mut fields, "detail", &info.detail);
        }
        _ => return None,
    }
    Some(fields)
}

fn list<'a>(
    fields: &mut Map<String, Value>,
    name: &str,
    items: impl ExactSizeIterator<Item = [(&'a str, &'a str); 2]>,
) {
    if items.len() == 0 {
        return;
    }
    let shown = items.map(|texts| {
        let mut shown = Map::new();
        for (name, value) in texts {
            text(&mut shown, name, value);
        }
        Value::Object(shown)
    });
    fields.insert(name.to_owned(), shown.collect());
}

fn text(fields: &mut Map<String, Value>, name: &str, value: &str) {
    if !value.is_empty() {
        fields.insert(name.to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::{Any, BadRequest, ErrorInfo, Help, Message, json};
    use bytes::Bytes;
    use outrigger_proto::google::rpc::{LocalizedMessage, bad_request};

    fn any(name: &str, message: &impl Message) -> Bytes {
        let type_url = format!("type.googleapis.com/{name}");
        Any {
            type_url,
            value: message.encode_to_vec().into(),
        }
        .encode_to_vec()
        .into()
    }

    #[test]
    fn statuses() {
        let request = BadRequest {
            field_violations: vec![bad_request::FieldViolation {
                field: "a".to_owned(),
                description: "b".to_owned(),
            }],
        };
        let localized = LocalizedMessage {
            locale: "en".to_owned(),
            message: String::new(),
        };
        let info = ErrorInfo {
            reason: "R".to_owned(),
            domain: "d".to_owned(),
            metadata: [("k".to_owned(), "v".to_owned())].into(),
        };
        for (code, message, details, expected) in [
            (5, "", vec![], r#"{"code":5}"#.to_owned()),
            (5, "no \"x\"", vec![], r#"{"code":5,"message":"no \"x\""}"#.to_owned()),
            (
                3,
                "m",
                vec![
                    any("google.rpc.ErrorInfo", &info),
                    any("google.rpc.BadRequest", &request),
                    any("google.rpc.Help", &Help::default()),
                    any("google.rpc.LocalizedMessage", &localized),
                    any("shop.Detail", &localized),
                ],
                [
                    r#"{"code":3,"message":"m","details":["#,
                    r#"{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"R","domain":"d","metadata":{"k":"v"}},"#,
                    r#"{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"a","description":"b"}]},"#,
                    r#"{"@type":"type.googleapis.com/google.rpc.Help"},"#,
                    r#"{"@type":"type.googleapis.com/google.rpc.LocalizedMessage","locale":"en"},"#,
                    r#"{"@type":"type.googleapis.com/shop.Detail","value":"CgJlbg=="}]}"#,
                ]
                .concat(),
            ),
            (13, "", vec![Bytes::from_static(b"\xff")], r#"{"code":13,"details":[{"@type":"","value":"/w=="}]}"#.to_owned()),
        ] {
            assert_eq!(json(code, message, &details), expected);
        }
    }
}
