//! Configuration: read, subscribe, unsubscribe.
//!
//! COMPAT(pkg/api/http/http.go): a read without result answers 204; an unsubscription that fails has a body of its own.

use crate::query;
use crate::reply;
use http::{Response, StatusCode};
use outrigger_channel::body::Body;
use outrigger_component::configuration::Get;
use outrigger_runtime::catalogue::{Code, configuration as catalogue};
use outrigger_runtime::configuration::{Configuration, shown};
use outrigger_runtime::error::Result;
use serde::Serialize;

/// `GET /v1.0/configuration/{store}`
pub(crate) async fn get(
    configuration: &Configuration,
    store: &str,
    query: Option<&str>,
) -> Result<Response<Body>> {
    let items = configuration.get(store, &request(query)).await?;
    if items.is_empty() {
        return Ok(reply::empty());
    }
    Ok(reply::json(StatusCode::OK, &shown(&items)))
}

/// `GET /v1.0/configuration/{store}/subscribe`
pub(crate) async fn subscribe(
    configuration: &Configuration,
    store: &str,
    query: Option<&str>,
) -> Result<Response<Body>> {
    #[derive(Serialize)]
    struct Subscribed {
        id: String,
    }
    let id = configuration.subscribe(store, &request(query)).await?;
    Ok(reply::json(StatusCode::OK, &Subscribed { id }))
}

/// `GET /v1.0/configuration/{store}/{id}/unsubscribe`. The code is for counting, when it failed.
pub(crate) fn unsubscribe(
    configuration: &Configuration,
    store: &str,
    id: &str,
) -> Result<(Response<Body>, Option<&'static Code>)> {
    #[derive(Serialize)]
    struct Unsubscribed<'m> {
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        ok: bool,
        #[serde(skip_serializing_if = "str::is_empty")]
        message: &'m str,
    }
    match configuration.unsubscribe(store, id) {
        Ok(()) => {
            let body = Unsubscribed {
                ok: true,
                message: "",
            };
            Ok((reply::json(StatusCode::OK, &body), None))
        }
        Err(error) if error.code == &catalogue::UNSUBSCRIBE => {
            let body = Unsubscribed {
                ok: false,
                message: &error.message,
            };
            let response = reply::json(StatusCode::INTERNAL_SERVER_ERROR, &body);
            Ok((response, Some(error.code)))
        }
        Err(error) => Err(error),
    }
}

fn request(query: Option<&str>) -> Get {
    Get {
        keys: query::values(query, "key"),
        metadata: query::metadata(query),
    }
}
