//! Secrets. Values go from the store into the answer and nowhere else.

use crate::query;
use crate::reply;
use http::{Response, StatusCode};
use outrigger_channel::body::Body;
use outrigger_runtime::error::Result;
use outrigger_runtime::secrets::Secrets;
use std::collections::BTreeMap;

/// `GET /v1.0/secrets/{store}/{name}`
pub(crate) async fn get(
    secrets: &Secrets,
    store: &str,
    name: &str,
    query: Option<&str>,
) -> Result<Response<Body>> {
    let secret = secrets.get(store, name, &query::metadata(query)).await?;
    if secret.0.is_empty() {
        return Ok(reply::empty());
    }
    Ok(reply::json(StatusCode::OK, &secret.0))
}

/// `GET /v1.0/secrets/{store}/bulk`
pub(crate) async fn bulk(secrets: &Secrets, store: &str, query: Option<&str>) -> Result<Response<Body>> {
    let secrets = secrets.bulk(store, &query::metadata(query)).await?;
    let shown: BTreeMap<_, _> = secrets.iter().map(|(name, secret)| (name, &secret.0)).collect();
    Ok(reply::json(StatusCode::OK, &shown))
}
