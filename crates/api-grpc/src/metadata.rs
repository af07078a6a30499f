//! What the sidecar says of itself, values that callers add, and the request to stop.
//!
//! COMPAT(pkg/api/universal/metadata.go): what is filled and what stays empty.

use crate::public::Shutdown;
use http::HeaderMap;
use outrigger_proto::dapr::runtime::v1 as proto;
use outrigger_resources::go;
use outrigger_runtime::error::Result;
use outrigger_runtime::metadata::{AppConnection, AppHealth, Metadata};
use outrigger_runtime::pubsub::active::{Active, Kind};

pub(crate) fn get(metadata: &Metadata) -> proto::GetMetadataResponse {
    let report = metadata.report();
    let facts = &report.facts;
    let component = |it: outrigger_runtime::components::snapshot::Listed| proto::RegisteredComponents {
        name: it.name,
        r#type: it.kind,
        version: it.version,
        capabilities: it.capabilities.into_iter().map(str::to_owned).collect(),
    };
    proto::GetMetadataResponse {
        id: facts.app_id.clone(),
        registered_components: report.components.into_iter().map(component).collect(),
        extended_metadata: report.extended.into_iter().collect(),
        subscriptions: report.subscriptions.into_iter().map(subscription).collect(),
        http_endpoints: facts
            .http_endpoints
            .iter()
            .map(|name| proto::MetadataHttpEndpoint { name: name.clone() })
            .collect(),
        app_connection_properties: Some(connection(&facts.app)),
        runtime_version: facts.version.clone(),
        enabled_features: facts.enabled_features.clone(),
        actor_runtime: Some(proto::ActorRuntime {
            runtime_status: report.actors.status as i32,
            host_ready: report.actors.host_ready,
            placement: report.actors.placement.to_owned(),
            ..Default::default()
        }),
        resiliencies: facts
            .resiliencies
            .iter()
            .map(|name| proto::MetadataResiliency { name: name.clone() })
            .collect(),
        ..Default::default()
    }
}

pub(crate) fn set(metadata: &Metadata, request: &proto::SetMetadataRequest) -> Result<()> {
    metadata.put(&request.key, &request.value)
}

pub(crate) fn shutdown(headers: &HeaderMap) -> Shutdown {
    let forced = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"true");
    if headers.get_all("dapr-force-shutdown").iter().any(forced) {
        Shutdown::Force
    } else {
        Shutdown::Graceful
    }
}

fn subscription(active: Active) -> proto::PubsubSubscription {
    let kind = match active.kind {
        Kind::Declarative => proto::PubsubSubscriptionType::Declarative,
        Kind::Programmatic => proto::PubsubSubscriptionType::Programmatic,
        Kind::Streaming => proto::PubsubSubscriptionType::Streaming,
    };
    let rules = active
        .rules
        .into_iter()
        .map(|rule| proto::PubsubSubscriptionRule {
            r#match: rule.expression,
            path: rule.path,
        })
        .collect();
    proto::PubsubSubscription {
        pubsub_name: active.pubsub,
        topic: active.topic,
        metadata: active.metadata.into_inner().into_iter().collect(),
        rules: Some(proto::PubsubSubscriptionRules { rules }),
        dead_letter_topic: active.dead_letter_topic,
        r#type: kind.into(),
    }
}

fn connection(app: &AppConnection) -> proto::AppConnectionProperties {
    let health = |health: &AppHealth| proto::AppConnectionHealthProperties {
        health_check_path: health.path.clone(),
        health_probe_interval: go::format_duration(health.interval),
        health_probe_timeout: go::format_duration(health.timeout),
        health_threshold: health.threshold,
    };
    proto::AppConnectionProperties {
        port: app.port.into(),
        protocol: app.protocol.clone(),
        channel_address: app.channel_address.clone(),
        max_concurrency: app.max_concurrency,
        health: app.health.as_ref().map(health),
    }
}
