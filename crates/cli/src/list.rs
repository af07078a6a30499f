//! `outrigger list`: the sidecars of this machine.

use crate::commands::Context;
use crate::instances::{self, Instance};
use crate::screen::table;
use anyhow::Result;
use clap::{Args, ValueEnum};

/// List the apps that run with a sidecar on this machine
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  outrigger list -o json")]
pub(crate) struct Flags {
    /// How to print it
    #[arg(long, short = 'o', value_enum, default_value = "table")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
    Yaml,
}

/// COMPAT(dapr/cli pkg/standalone/list.go): headings and their order.
const HEADINGS: [&str; 13] = [
    "APP ID",
    "HTTP PORT",
    "GRPC PORT",
    "APP PORT",
    "COMMAND",
    "AGE",
    "CREATED",
    "DAPRD PID",
    "CLI PID",
    "APP PID",
    "RUN_TEMPLATE_PATH",
    "APP_LOG_PATH",
    "DAPRD_LOG_PATH",
];

pub(crate) async fn run(flags: &Flags, context: &Context) -> Result<u8> {
    let instances = instances::list(&context.environment).await?;
    let text = match flags.output {
        Output::Json => serde_json::to_string_pretty(&instances)? + "\n",
        Output::Yaml => yaml(&instances)?,
        Output::Table if instances.is_empty() => "No Dapr instances found.\n".to_owned(),
        Output::Table => {
            let mut rows = vec![HEADINGS.map(str::to_owned).to_vec()];
            rows.extend(instances.iter().map(row));
            table(&rows)
        }
    };
    context.screen.write(text.as_bytes());
    Ok(0)
}

fn row(instance: &Instance) -> Vec<String> {
    vec![
        instance.app_id.clone(),
        instance.http_port.to_string(),
        instance.grpc_port.to_string(),
        instance.app_port.to_string(),
        instance.command.clone(),
        instance.age.clone(),
        instance.created.clone(),
        instance.daprd_pid.to_string(),
        instance.cli_pid.to_string(),
        instance.app_pid.to_string(),
        instance.run_template_path.clone(),
        instance.app_log_path.clone(),
        instance.daprd_log_path.clone(),
    ]
}

/// A list of flat mappings; values are written as JSON, which YAML contains.
fn yaml(instances: &[Instance]) -> Result<String> {
    let mut text = String::new();
    for instance in instances {
        let value = serde_json::to_value(instance)?;
        for (index, (key, value)) in value.as_object().into_iter().flatten().enumerate() {
            let lead = if index == 0 { "- " } else { "  " };
            text.push_str(&format!("{lead}{key}: {value}\n"));
        }
    }
    Ok(if text.is_empty() { "[]\n".to_owned() } else { text })
}
