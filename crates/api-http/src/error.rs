//! Failures as HTTP: one rendering for every [`ApiError`], and plain text for what is refused before a use case is
//! reached.
//!
//! COMPAT(pkg/messages/api_error.go, dapr/kit errors): the shapes. Fields of a detail are named as in its proto file;
//! metadata that is empty reads `null`.

use crate::reply;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use outrigger_channel::body::Body;
use outrigger_runtime::error::{ApiError, Detail, Link, Violation};
use serde::Serialize;
use std::collections::BTreeMap;

/// `errorCode` and `message`, and `details` when there are any.
#[derive(Serialize)]
struct Shown<'e> {
    #[serde(rename = "errorCode")]
    code: &'e str,
    message: &'e str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    details: &'e [ShownDetail<'e>],
}

#[derive(Serialize)]
#[serde(tag = "@type")]
enum ShownDetail<'e> {
    #[serde(rename = "type.googleapis.com/google.rpc.ErrorInfo")]
    ErrorInfo {
        domain: &'static str,
        metadata: Option<&'e BTreeMap<String, String>>,
        reason: &'e str,
    },
    #[serde(rename = "type.googleapis.com/google.rpc.ResourceInfo")]
    ResourceInfo {
        description: &'e str,
        owner: &'e str,
        resource_name: &'e str,
        resource_type: &'e str,
    },
    #[serde(rename = "type.googleapis.com/google.rpc.BadRequest")]
    BadRequest {
        field_violations: Vec<ShownViolation<'e>>,
    },
    #[serde(rename = "type.googleapis.com/google.rpc.Help")]
    Help { links: Vec<ShownLink<'e>> },
}

#[derive(Serialize)]
struct ShownViolation<'e> {
    description: &'e str,
    field: &'e str,
}

#[derive(Serialize)]
struct ShownLink<'e> {
    description: &'e str,
    url: &'e str,
}

impl<'e> From<&'e Detail> for ShownDetail<'e> {
    fn from(detail: &'e Detail) -> Self {
        match detail {
            Detail::ErrorInfo { reason, metadata } => Self::ErrorInfo {
                domain: "dapr.io",
                metadata: (!metadata.is_empty()).then_some(metadata),
                reason,
            },
            Detail::ResourceInfo {
                resource_type,
                resource_name,
                owner,
                description,
            } => Self::ResourceInfo {
                description,
                owner,
                resource_name,
                resource_type,
            },
            Detail::BadRequest { violations } => Self::BadRequest {
                field_violations: violations
                    .iter()
                    .map(|Violation { field, description }| ShownViolation { description, field })
                    .collect(),
            },
            Detail::Help { links } => Self::Help {
                links: links
                    .iter()
                    .map(|Link { description, url }| ShownLink { description, url })
                    .collect(),
            },
        }
    }
}

/// The answer to a failed use case.
pub(crate) fn response(error: &ApiError) -> Response<Body> {
    let details: Vec<ShownDetail<'_>> = error.details.iter().map(ShownDetail::from).collect();
    let shown = Shown {
        code: error.code.tag,
        message: &error.message,
        details: &details,
    };
    let status = StatusCode::from_u16(error.code.http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = reply::json(status, &shown);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// A refusal in plain text, as the reference's middleware answers.
pub(crate) fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut line = String::with_capacity(text.len() + 1);
    line.push_str(text);
    line.push('\n');
    let mut response = reply::full(status, Bytes::from(line));
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] as [(HeaderName, &'static str); 2]
    {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::{plain, response};
    use http::StatusCode;
    use outrigger_runtime::catalogue::{invoke, state};
    use outrigger_runtime::error::ApiError;

    fn shown(error: &ApiError) -> (u16, serde_json::Value) {
        let answer = response(error);
        assert_eq!(answer.headers()["content-type"], "application/json");
        let body = answer.body().at_hand().unwrap();
        (answer.status().as_u16(), serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn shapes() {
        let info = |reason: &str, metadata: serde_json::Value| {
            serde_json::json!({
                "@type": "type.googleapis.com/google.rpc.ErrorInfo", "domain": "dapr.io", "reason": reason, "metadata": metadata,
            })
        };
        let resource = serde_json::json!({
            "@type": "type.googleapis.com/google.rpc.ResourceInfo",
            "resource_type": "state", "resource_name": "s", "owner": "", "description": "",
        });
        let links = serde_json::json!([{
            "description": "Check the list of state stores and the features they support",
            "url": "https://docs.dapr.io/reference/components-reference/supported-state-stores/",
        }]);
        let violations = serde_json::json!([{"field": "a||b", "description": "input key/keyPrefix 'a||b' can't contain '||'"}]);
        for (error, status, details) in [
            (invoke::no_app_id(), 404, None),
            (
                state::not_found("s"),
                400,
                Some(serde_json::json!([info(
                    "DAPR_STATE_NOT_FOUND",
                    serde_json::Value::Null
                )])),
            ),
            (
                state::too_many_operations("s", 2, 1),
                400,
                Some(serde_json::json!([
                    resource,
                    info(
                        "DAPR_STATE_TOO_MANY_TRANSACTIONS",
                        serde_json::json!({"currentOpsTransaction": "2", "maxOpsPerTransaction": "1"})
                    ),
                ])),
            ),
            (
                state::transactions_unsupported("s"),
                500,
                Some(serde_json::json!([
                    {"@type": "type.googleapis.com/google.rpc.Help", "links": links},
                    resource,
                    info("DAPR_STATE_TRANSACTIONS_NOT_SUPPORTED", serde_json::Value::Null),
                ])),
            ),
            (
                state::illegal_key("s", "a||b"),
                400,
                Some(serde_json::json!([
                    {"@type": "type.googleapis.com/google.rpc.BadRequest", "field_violations": violations},
                    resource,
                    info("DAPR_STATE_ILLEGAL_KEY", serde_json::Value::Null),
                ])),
            ),
        ] {
            let mut expected = serde_json::json!({"errorCode": error.code.tag, "message": error.message});
            if let Some(details) = details {
                expected["details"] = details;
            }
            assert_eq!(shown(&error), (status, expected));
        }
    }

    #[test]
    fn refusals_are_lines_of_text() {
        let answer = plain(StatusCode::UNAUTHORIZED, "invalid api token");
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
        assert_eq!(answer.body().at_hand().unwrap(), "invalid api token\n");
    }
}
