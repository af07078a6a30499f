//! What the sidecar says of itself, and values that callers add.
//!
//! COMPAT(pkg/api/http/metadata.go): names, their order, and what is left out when empty.

use crate::middleware::limit;
use crate::reply;
use http::{Response, StatusCode};
use outrigger_channel::body::Body;
use outrigger_resources::go;
use outrigger_runtime::catalogue::common as catalogue;
use outrigger_runtime::error::Result;
use outrigger_runtime::metadata::{AppConnection, AppHealth, Metadata, Report};
use outrigger_runtime::pubsub::active::{Active, Kind};
use serde::Serialize;
use std::collections::BTreeMap;

/// Largest value that may be put, in bytes; the public port has no other limit.
const VALUE: usize = 1 << 20;

/// `GET /v1.0/metadata`
pub(crate) fn get(metadata: &Metadata) -> Response<Body> {
    let report = metadata.report();
    reply::json(StatusCode::OK, &Shown::of(&report))
}

/// `PUT /v1.0/metadata/{key}`: the body is the value.
pub(crate) async fn put(metadata: &Metadata, key: &str, body: Body) -> Result<Response<Body>> {
    let value = body
        .collect(VALUE)
        .await
        .map_err(|error| catalogue::body_read(limit::reason(&error)))?;
    metadata
        .put(key, &String::from_utf8_lossy(&value))
        .map_err(catalogue::bad_request)?;
    Ok(reply::empty())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'r> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'r str,
    #[serde(skip_serializing_if = "str::is_empty")]
    runtime_version: &'r str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    enabled_features: &'r [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    components: Vec<Component<'r>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extended: &'r BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions: Vec<Subscription<'r>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    http_endpoints: Vec<Named<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_connection_properties: Option<Connection<'r>>,
    actor_runtime: ActorRuntime<'r>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resiliencies: Vec<Named<'r>>,
}

#[derive(Serialize)]
struct Named<'r> {
    name: &'r str,
}

#[derive(Serialize)]
struct Component<'r> {
    name: &'r str,
    #[serde(rename = "type")]
    kind: &'r str,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'r str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    capabilities: &'r [&'static str],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Subscription<'r> {
    #[serde(rename = "pubsubname")]
    pubsub: &'r str,
    topic: &'r str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<&'r str, &'r str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<Rule<'r>>,
    dead_letter_topic: &'r str,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct Rule<'r> {
    #[serde(rename = "match", skip_serializing_if = "str::is_empty")]
    expression: &'r str,
    #[serde(skip_serializing_if = "str::is_empty")]
    path: &'r str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Connection<'r> {
    #[serde(skip_serializing_if = "is_zero")]
    port: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    protocol: &'r str,
    #[serde(skip_serializing_if = "str::is_empty")]
    channel_address: &'r str,
    #[serde(skip_serializing_if = "is_zero")]
    max_concurrency: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<ConnectionHealth<'r>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConnectionHealth<'r> {
    #[serde(skip_serializing_if = "str::is_empty")]
    health_check_path: &'r str,
    health_probe_interval: String,
    health_probe_timeout: String,
    #[serde(skip_serializing_if = "is_zero")]
    health_threshold: i32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ActorRuntime<'r> {
    runtime_status: &'r str,
    host_ready: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    placement: &'r str,
}

impl<'r> Shown<'r> {
    fn of(report: &'r Report) -> Self {
        let facts = &report.facts;
        let named = |names: &'r [String]| names.iter().map(|name| Named { name }).collect();
        Self {
            id: &facts.app_id,
            runtime_version: &facts.version,
            enabled_features: &facts.enabled_features,
            components: report
                .components
                .iter()
                .map(|it| Component {
                    name: &it.name,
                    kind: &it.kind,
                    version: &it.version,
                    capabilities: &it.capabilities,
                })
                .collect(),
            extended: &report.extended,
            subscriptions: report.subscriptions.iter().map(Subscription::of).collect(),
            http_endpoints: named(&facts.http_endpoints),
            app_connection_properties: (facts.app != AppConnection::default())
                .then(|| Connection::of(&facts.app)),
            actor_runtime: ActorRuntime {
                runtime_status: report.actors.status.as_str(),
                host_ready: report.actors.host_ready,
                placement: report.actors.placement,
            },
            resiliencies: named(&facts.resiliencies),
        }
    }
}

impl<'r> Subscription<'r> {
    fn of(active: &'r Active) -> Self {
        Self {
            pubsub: &active.pubsub,
            topic: &active.topic,
            metadata: active.metadata.iter().collect(),
            rules: active
                .rules
                .iter()
                .map(|rule| Rule {
                    expression: &rule.expression,
                    path: &rule.path,
                })
                .collect(),
            dead_letter_topic: &active.dead_letter_topic,
            kind: match active.kind {
                Kind::Declarative => "DECLARATIVE",
                Kind::Programmatic => "PROGRAMMATIC",
                Kind::Streaming => "STREAMING",
            },
        }
    }
}

impl<'r> Connection<'r> {
    fn of(app: &'r AppConnection) -> Self {
        Self {
            port: app.port.into(),
            protocol: &app.protocol,
            channel_address: &app.channel_address,
            max_concurrency: app.max_concurrency,
            health: app.health.as_ref().map(
                |AppHealth {
                     path,
                     interval,
                     timeout,
                     threshold,
                 }| ConnectionHealth {
                    health_check_path: path,
                    health_probe_interval: go::format_duration(*interval),
                    health_probe_timeout: go::format_duration(*timeout),
                    health_threshold: *threshold,
                },
            ),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}
