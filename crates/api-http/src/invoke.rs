//! Service invocation: three ways to say which app, then the call, then its answer as the app gave it. Bodies stream
//! through in both directions.
//!
//! COMPAT(pkg/api/http/directmessaging.go).

mod status;

use crate::middleware::trace::Trace;
use crate::path;
use crate::reply;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderName, HeaderValue,
};
use http::{HeaderMap, Method, Response, StatusCode};
use outrigger_channel::body::Body;
use outrigger_channel::call::{Call, Reply, Status};
use outrigger_channel::wire;
use outrigger_runtime::catalogue::invoke as catalogue;
use outrigger_runtime::error::Result;
use outrigger_runtime::invoke::Invoke;
use std::borrow::Cow;

const APP_ID: &str = "dapr-app-id";
const METHOD: &str = "/method/";
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// Whom to call, and what.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Address<'p> {
    pub(crate) app: Cow<'p, str>,
    /// Decoded; not yet what access rules see, see [`Invoke::call`].
    pub(crate) method: String,
}

/// The call that a request stands for.
pub(crate) struct Incoming<'r> {
    pub(crate) method: &'r Method,
    pub(crate) query: &'r str,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

/// What came back.
pub(crate) struct Outcome {
    pub(crate) response: Response<Body>,
    /// The app failed in its own way. Its answer is passed on, and counted as an invocation error.
    pub(crate) failed: bool,
}

/// Finds the app in the header, then in the basic authorisation, then in the path (decoded, not cleaned). The header
/// is removed.
pub(crate) fn address<'p>(path: &'p str, headers: &mut HeaderMap) -> Result<Address<'p>> {
    let whole = |app: String| {
        let method = path::clean(path);
        Address {
            app: Cow::Owned(app),
            method: method.strip_prefix('/').unwrap_or(&method).to_owned(),
        }
    };
    if let Some(app) = headers.remove(APP_ID).filter(|app| !app.is_empty()) {
        return Ok(whole(String::from_utf8_lossy(app.as_bytes()).into_owned()));
    }
    if let Some(app) = headers.get(AUTHORIZATION).and_then(basic) {
        return Ok(whole(app));
    }
    in_path(path).ok_or_else(catalogue::no_app_id)
}

/// `dapr-app-id:<app>` as user and password.
fn basic(authorization: &HeaderValue) -> Option<String> {
    let encoded = authorization.to_str().ok()?.strip_prefix("Basic ")?;
    let decoded = String::from_utf8(BASE64.decode(encoded).ok()?).ok()?;
    let (user, app) = decoded.split_once(':')?;
    (user.eq_ignore_ascii_case(APP_ID) && !app.is_empty() && !app.contains(':')).then(|| app.to_owned())
}

/// `/v1.0/invoke/<app>/method/<method>`; the app may be a URL, whose slashes are not to be merged.
fn in_path(path: &str) -> Option<Address<'_>> {
    let rest = path.trim_start_matches('/').strip_prefix("v1.0/")?;
    let rest = rest
        .trim_start_matches('/')
        .strip_prefix("invoke/")?
        .trim_start_matches('/');
    let at = rest.find(METHOD).filter(|at| *at > 0)?;
    let (app, method) = (rest.get(..at)?, rest.get(at + METHOD.len()..)?);
    let app = path::decode_parameter(app).unwrap_or_else(|_| app.into());
    Some(Address {
        app,
        method: method.to_owned(),
    })
}

/// Calls the app.
pub(crate) async fn call(
    invoke: &Invoke,
    address: Address<'_>,
    incoming: Incoming<'_>,
    trace: &Trace,
) -> Result<Outcome> {
    let Incoming {
        method,
        query,
        mut headers,
        body,
    } = incoming;
    // Host and expectation are between the client and us; so are the hop-by-hop fields.
    headers.remove(HOST);
    headers.remove(EXPECT);
    wire::strip_hop_by_hop(&mut headers);
    let event_stream = wants_events(&headers);
    let streamed = body.length().is_none();
    let call = Call {
        verb: upper_case(method),
        method: address.method,
        query: query.to_owned(),
        headers,
        body,
        type_url: String::new(),
        event_stream,
    };
    let reply = invoke.call(&address.app, call, trace.context()).await?;
    // COMPAT: without a repeatable request the answer is passed on unjudged.
    let failed = !streamed && matches!(reply.status, Status::Http(_)) && !reply.status.is_success();
    let mut response = answer(reply);
    if failed {
        response.headers_mut().entry(CONTENT_TYPE).or_insert(reply::JSON);
    } else if event_stream {
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, EVENT_STREAM);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    Ok(Outcome { response, failed })
}

/// The app's answer as ours.
fn answer(reply: Reply) -> Response<Body> {
    let Reply {
        status,
        mut headers,
        body,
        ..
    } = reply;
    wire::strip_hop_by_hop(&mut headers);
    retain_ours(&mut headers);
    let (code, body) = match status {
        Status::Http(code) => (
            StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY),
            body,
        ),
        Status::Grpc { code: 0, .. } => (StatusCode::OK, body),
        Status::Grpc {
            code,
            message,
            details,
        } => {
            headers.entry(CONTENT_TYPE).or_insert(reply::JSON);
            let shown = status::json(code, &message, &details);
            (status::http(code), Body::from(shown))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = code;
    *response.headers_mut() = headers;
    response
}

/// Takes out what an HTTP client is not to see, and renames what would look like gRPC's own.
fn retain_ours(headers: &mut HeaderMap) {
    headers.remove(CONTENT_LENGTH);
    headers.remove(wire::DESTINATION_APP_ID);
    let theirs = |name: &&HeaderName| name.as_str().ends_with("-bin") || name.as_str().starts_with("grpc-");
    let names: Vec<HeaderName> = headers.keys().filter(theirs).cloned().collect();
    for name in names {
        let values: Vec<HeaderValue> = headers.get_all(&name).iter().cloned().collect();
        headers.remove(&name);
        if name.as_str().ends_with("-bin") {
            continue;
        }
        let renamed =
            HeaderName::try_from(format!("dapr-{name}")).expect("a prefix of letters keeps a name valid");
        for value in values {
            headers.append(renamed.clone(), value);
        }
    }
}

fn wants_events(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT).is_some_and(|accept| {
        accept
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(EVENT_STREAM.as_bytes())
    })
}

/// COMPAT: apps see verbs in capitals.
fn upper_case(method: &Method) -> Method {
    if method.as_str().bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Method::from_bytes(method.as_str().to_ascii_uppercase().as_bytes())
            .expect("capitals of a valid method are a valid method");
    }
    method.clone()
}

#[cfg(test)]
mod tests;
