//! `outrigger publish`: publishes an event through an app's sidecar.

use crate::commands::Context;
use crate::http::{Call, Place, Sidecar, encode};
use crate::instances::{self, Instance};
use crate::invoke::data;
use crate::run::resolve::socket;
use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// Publish an event through the sidecar of an app that runs on this machine
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  outrigger publish --publish-app-id shop --pubsub pubsub --topic orders --data '{\"id\":1}'\n  \
    outrigger publish -i shop -p pubsub -t orders -d raw -m '{\"rawPayload\":\"true\",\"ttlInSeconds\":\"10\"}'\n\n\
    Exit codes: 0 the broker has the event, 1 it has not, 2 wrong usage."
)]
pub(crate) struct Flags {
    /// The app whose sidecar publishes
    #[arg(long, short = 'i', value_name = "ID")]
    publish_app_id: String,

    /// The name of the broker's component
    #[arg(long, short = 'p', value_name = "NAME")]
    pubsub: String,

    /// The topic
    #[arg(long, short = 't')]
    topic: String,

    /// The event: any data, or a complete CloudEvent as JSON
    #[arg(long, short = 'd', conflicts_with = "data_file")]
    data: Option<String>,

    /// Publish what is in this file
    #[arg(long, short = 'f', value_name = "FILE")]
    data_file: Option<PathBuf>,

    /// Metadata of the request, as a JSON object
    #[arg(long, short = 'm', value_name = "JSON")]
    metadata: Option<String>,

    /// Folder of the sidecar's unix sockets [default: as the sidecar was started]
    #[arg(long, short = 'u', value_name = "DIR")]
    unix_domain_socket: Option<PathBuf>,
}

pub(crate) async fn run(flags: Flags, context: &Context) -> Result<u8> {
    let body = data(flags.data, flags.data_file)?;
    let query = query(flags.metadata.as_deref())?;
    let instance = instances::of(&flags.publish_app_id, context).await?;
    // A topic may have slashes, which are part of its name.
    let topic: Vec<String> = flags.topic.split('/').map(encode).collect();
    let call = Call {
        method: "POST",
        path: &format!(
            "/v1.0/publish/{}/{}{query}",
            encode(&flags.pubsub),
            topic.join("/")
        ),
        content_type: Some(content_type(&body)),
        body,
    };
    let place = place(flags.unix_domain_socket, &instance);
    let answer = Sidecar::new(place, &context.environment)
        .call(call, PATIENCE)
        .await?;
    if !answer.is_success() {
        bail!(
            "cannot publish to topic {:?} of {:?}: {}",
            flags.topic,
            flags.pubsub,
            answer.describe()
        );
    }
    context.screen.success("Event published successfully");
    Ok(0)
}

/// Where to call a sidecar.
pub(crate) fn place(folder: Option<PathBuf>, instance: &Instance) -> Place {
    match folder {
        Some(folder) => Place::Socket(socket(&folder, &instance.app_id, "http")),
        None => instance.place.clone(),
    }
}

fn query(metadata: Option<&str>) -> Result<String> {
    let Some(metadata) = metadata.filter(|metadata| !metadata.is_empty()) else {
        return Ok(String::new());
    };
    let metadata: Map<String, Value> =
        serde_json::from_str(metadata).context("--metadata must be a JSON object")?;
    let pairs: Vec<String> = metadata
        .iter()
        .map(|(key, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("metadata.{}={}", encode(key), encode(&value))
        })
        .collect();
    Ok(if pairs.is_empty() {
        String::new()
    } else {
        format!("?{}", pairs.join("&"))
    })
}

/// COMPAT(dapr/cli pkg/standalone/publish.go): what has the attributes of a CloudEvent is one.
fn content_type(body: &[u8]) -> &'static str {
    const ATTRIBUTES: [&str; 5] = ["id", "source", "specversion", "type", "data"];
    match serde_json::from_slice::<Map<String, Value>>(body) {
        Ok(event) if ATTRIBUTES.iter().all(|name| event.contains_key(*name)) => {
            "application/cloudevents+json"
        }
        _ => "application/json",
    }
}

#[cfg(test)]
mod tests {
    use super::{content_type, query};

    #[test]
    fn metadata_becomes_a_query() {
        let cases = [
            (None, ""),
            (Some(""), ""),
            (Some("{}"), ""),
            (
                Some(r#"{"rawPayload":"true","ttlInSeconds":10}"#),
                "?metadata.rawPayload=true&metadata.ttlInSeconds=10",
            ),
            (Some(r#"{"a&b":"c d"}"#), "?metadata.a%26b=c%20d"),
        ];
        for (metadata, expected) in cases {
            assert_eq!(query(metadata).unwrap(), expected);
        }
        assert!(
            query(Some("[1]"))
                .unwrap_err()
                .to_string()
                .contains("must be a JSON object")
        );
    }

    #[test]
    fn cloud_events_are_recognised() {
        let cases = [
            (
                r#"{"id":"1","source":"s","specversion":"1.0","type":"t","data":1}"#,
                "application/cloudevents+json",
            ),
            (
                r#"{"id":"1","source":"s","specversion":"1.0","type":"t"}"#,
                "application/json",
            ),
            ("plain", "application/json"),
            ("", "application/json"),
        ];
        for (body, expected) in cases {
            assert_eq!(content_type(body.as_bytes()), expected, "{body}");
        }
    }
}
