//! `outrigger status`: the hub of this home and the sidecars of this machine.

use crate::commands::Context;
use crate::hub;
use crate::instances::{self, Instance};
use crate::screen::table;
use anyhow::Result;
use clap::{Args, ValueEnum};
use outrigger_hub::client::Client;
use serde_json::{Value, json};

/// Show how the hub and the sidecars are
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  outrigger status\n  outrigger status -o json\n\n\
    Exit codes: 0 all is well or nothing runs, 1 the hub cannot write or a sidecar does not answer, 2 wrong usage.")]
pub(crate) struct Flags {
    /// How to print it
    #[arg(long, short = 'o', value_enum, default_value = "table")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

pub(crate) async fn run(flags: &Flags, context: &Context) -> Result<u8> {
    let hub = match hub::find(&context.home).await? {
        Some(client) => Some(describe(&client).await?),
        None => None,
    };
    let instances = instances::list(&context.environment).await?;
    let troubled = hub.as_ref().is_some_and(|hub| hub["writeError"] != "");
    let silent = instances.iter().any(|instance| !instance.answers);
    match flags.output {
        Output::Json => {
            let sidecars: Vec<Value> = instances
                .iter()
                .map(|each| json!({"appId": each.app_id, "pid": each.daprd_pid, "httpPort": each.http_port, "age": each.age, "answers": each.answers}))
                .collect();
            let all =
                json!({"home": context.home.path().display().to_string(), "hub": hub, "sidecars": sidecars});
            context.screen.line(&serde_json::to_string_pretty(&all)?);
        }
        Output::Table => {
            context
                .screen
                .write(text(hub.as_ref(), &instances, context).as_bytes());
        }
    }
    Ok(u8::from(troubled || silent))
}

async fn describe(client: &Client) -> Result<Value> {
    let status = client.status().await?;
    let topics: Vec<Value> = status
        .topics
        .iter()
        .map(|topic| {
            let groups: Vec<Value> = topic
                .groups
                .iter()
                .map(|group| json!({"name": group.name, "members": group.members, "waiting": group.lag, "inFlight": group.in_flight, "stalled": group.stalled}))
                .collect();
            let kept = topic.next_offset.saturating_sub(topic.first_offset);
            json!({"name": topic.name, "kept": kept, "groups": groups})
        })
        .collect();
    let disk = status.disk.unwrap_or_default();
    let counters = status.counters.unwrap_or_default();
    Ok(json!({
        "pid": status.pid,
        "version": status.version,
        "socket": client.socket().display().to_string(),
        "fsync": status.fsync,
        "connections": status.connections,
        "writeError": status.write_error,
        "apps": status.instances.iter().map(|app| app.app_id.clone()).collect::<Vec<_>>(),
        "disk": {"logBytes": disk.log_bytes, "storeBytes": disk.engine_bytes, "freeBytes": disk.free_bytes},
        "published": counters.published,
        "delivered": counters.delivered,
        "redelivered": counters.redelivered,
        "dropped": counters.dropped,
        "topics": topics,
    }))
}

fn text(hub: Option<&Value>, instances: &[Instance], context: &Context) -> String {
    let mut text = format!("Home: {}\n", context.home.path().display());
    match hub {
        None => text.push_str("Hub: not running; the next `outrigger run` starts it\n"),
        Some(hub) => {
            let show = |key: &str| match &hub[key] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let mebibytes = |key: &str| hub["disk"][key].as_u64().unwrap_or(0) >> 20;
            text.push_str(&format!(
                "Hub: process {}, version {}, fsync {}\n",
                show("pid"),
                show("version"),
                show("fsync")
            ));
            text.push_str(&format!(
                "  {} connections; published {}, delivered {}, redelivered {}\n",
                show("connections"),
                show("published"),
                show("delivered"),
                show("redelivered")
            ));
            text.push_str(&format!(
                "  log {} MiB, store {} MiB, {} MiB free\n",
                mebibytes("logBytes"),
                mebibytes("storeBytes"),
                mebibytes("freeBytes")
            ));
            if hub["writeError"] != "" {
                text.push_str(&format!("  WRITES FAIL: {}\n", show("writeError")));
            }
            text.push_str(&topics(hub));
        }
    }
    text.push('\n');
    if instances.is_empty() {
        text.push_str("No sidecars run.\n");
        return text;
    }
    let mut rows = vec![
        ["SIDECAR", "PID", "HTTP PORT", "AGE", "STATUS"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for each in instances {
        let status = if each.answers {
            "answers"
        } else {
            "does not answer"
        };
        rows.push(vec![
            each.app_id.clone(),
            each.daprd_pid.to_string(),
            each.http_port.to_string(),
            each.age.clone(),
            status.to_owned(),
        ]);
    }
    text.push_str(&table(&rows));
    text
}

fn topics(hub: &Value) -> String {
    let mut rows = vec![
        ["  TOPIC", "KEPT", "GROUP", "MEMBERS", "WAITING"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for topic in list(&hub["topics"]) {
        let name = format!("  {}", topic["name"].as_str().unwrap_or_default());
        let kept = topic["kept"].to_string();
        let groups = list(&topic["groups"]);
        if groups.is_empty() {
            rows.push(vec![name.clone(), kept.clone()]);
        }
        for group in groups {
            let stalled = group["stalled"].as_str().unwrap_or_default();
            let waiting = if stalled.is_empty() {
                group["waiting"].to_string()
            } else {
                format!("{} ({stalled})", group["waiting"])
            };
            rows.push(vec![
                name.clone(),
                kept.clone(),
                group["name"].as_str().unwrap_or_default().to_owned(),
                group["members"].to_string(),
                waiting,
            ]);
        }
    }
    if rows.len() == 1 {
        String::new()
    } else {
        table(&rows)
    }
}
