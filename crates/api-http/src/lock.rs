//! Distributed locks: try, unlock.
//!
//! COMPAT(pkg/api/http/universal.go): bodies are protobuf's JSON: names in either spelling, numbers also as text, unknown
//! names skipped, no body at all is an empty message.

use crate::json;
use crate::middleware::limit;
use crate::reply;
use http::{Response, StatusCode};
use outrigger_channel::body::Body;
use outrigger_channel::json::{Object, or_default};
use outrigger_runtime::catalogue::common;
use outrigger_runtime::error::Result;
use outrigger_runtime::lock::{Lock, TryLock};
use serde::{Deserialize, Deserializer, Serialize};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    #[serde(rename = "resourceId", alias = "resource_id", deserialize_with = "or_default")]
    resource: String,
    #[serde(rename = "lockOwner", alias = "lock_owner", deserialize_with = "or_default")]
    owner: String,
    #[serde(
        rename = "expiryInSeconds",
        alias = "expiry_in_seconds",
        deserialize_with = "whole"
    )]
    expiry: i32,
}

/// `POST /v1.0-alpha1/lock/{store}`. A fencing token comes as the header `metadata.fencingToken`.
pub(crate) async fn try_lock(lock: &Lock, store: &str, body: Body) -> Result<Response<Body>> {
    #[derive(Serialize)]
    struct Told {
        success: bool,
    }
    let asked = read(body).await?;
    let granted = lock
        .try_lock(TryLock {
            store: store.to_owned(),
            resource: asked.resource,
            owner: asked.owner,
            expiry: asked.expiry,
        })
        .await?;
    let told = Told {
        success: granted.is_some(),
    };
    let mut response = reply::json(StatusCode::OK, &told);
    if let Some(granted) = granted {
        reply::add_metadata(response.headers_mut(), &granted.metadata);
    }
    Ok(response)
}

/// `POST /v1.0-alpha1/unlock/{store}`
pub(crate) async fn unlock(lock: &Lock, store: &str, body: Body) -> Result<Response<Body>> {
    #[derive(Serialize)]
    struct Told {
        status: i32,
    }
    let asked = read(body).await?;
    let unlocked = lock.unlock(store, &asked.resource, asked.owner).await?;
    let told = Told {
        status: unlocked as i32,
    };
    Ok(reply::json(StatusCode::OK, &told))
}

async fn read(body: Body) -> Result<Asked> {
    let body = limit::read(body).await.map_err(common::body_read)?;
    if body.is_empty() {
        return Ok(Asked::default());
    }
    let Object(asked) = json::first(&body, "runtimev1pb.LockRequest").map_err(common::malformed_body)?;
    Ok(asked)
}

fn whole<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Whole(i32),
        Float(f64),
        Text(String),
    }
    let wrong = || serde::de::Error::custom("expiryInSeconds must be a whole number of 32 bits");
    match Option::deserialize(from)? {
        None => Ok(0),
        Some(Number::Whole(number)) => Ok(number),
        // As in `60.0` and `6e1`: exact, or refused.
        Some(Number::Float(number)) => format!("{number}").parse().map_err(|_| wrong()),
        Some(Number::Text(text)) => text.parse().map_err(|_| wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::Asked;

    #[test]
    fn bodies() {
        for (body, expected) in [
            ("{}", Some(("", "", 0))),
            (
                r#"{"resourceId":"r","lockOwner":"o","expiryInSeconds":60,"more":[]}"#,
                Some(("r", "o", 60)),
            ),
            (
                r#"{"resource_id":"r","lock_owner":null,"expiry_in_seconds":"-6"}"#,
                Some(("r", "", -6)),
            ),
            (r#"{"expiryInSeconds":6e1}"#, Some(("", "", 60))),
            (r#"{"expiryInSeconds":1.5}"#, None),
            (r#"{"expiryInSeconds":"soon"}"#, None),
            (r#"{"expiryInSeconds":3000000000}"#, None),
            (r#"{"resourceId":7}"#, None),
        ] {
            let asked = serde_json::from_str::<Asked>(body);
            let seen = asked
                .as_ref()
                .ok()
                .map(|asked| (&*asked.resource, &*asked.owner, asked.expiry));
            assert_eq!(seen, expected, "{body}");
        }
    }
}
