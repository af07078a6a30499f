//! `outrigger invoke`: calls a method of an app through its sidecar.

use crate::commands::Context;
use crate::http::{Call, Sidecar};
use crate::instances;
use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Calls may take long; this is against those that never end.
const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// Call a method of an app that runs on this machine
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  outrigger invoke --app-id shop --method orders --data '{\"item\":\"paddle\"}'\n  \
    outrigger invoke --app-id shop --method status --verb GET\n\n\
    Exit codes: 0 the app answered with a status below 400, 1 it did not, 2 wrong usage."
)]
pub(crate) struct Flags {
    /// The app to call
    #[arg(long, short = 'a', value_name = "ID")]
    app_id: String,

    /// The method: a path, with a query if need be
    #[arg(long, short = 'm')]
    method: String,

    /// What to send, usually JSON
    #[arg(long, short = 'd', conflicts_with = "data_file")]
    data: Option<String>,

    /// Send what is in this file
    #[arg(long, short = 'f', value_name = "FILE")]
    data_file: Option<PathBuf>,

    /// The HTTP verb
    #[arg(long, short = 'v', default_value = "POST")]
    verb: String,

    /// Folder of the sidecar's unix sockets [default: as the sidecar was started]
    #[arg(long, short = 'u', value_name = "DIR")]
    unix_domain_socket: Option<PathBuf>,
}

pub(crate) async fn run(flags: Flags, context: &Context) -> Result<u8> {
    let body = data(flags.data, flags.data_file)?;
    let instance = instances::of(&flags.app_id, context).await?;
    let place = crate::publish::place(flags.unix_domain_socket, &instance);
    let method = flags.method.trim_start_matches('/');
    let call = Call {
        method: &flags.verb.to_uppercase(),
        path: &format!(
            "/v1.0/invoke/{}/method/{method}",
            crate::http::encode(&flags.app_id)
        ),
        content_type: Some("application/json"),
        body,
    };
    let answer = Sidecar::new(place, &context.environment)
        .call(call, PATIENCE)
        .await?;
    if answer.status >= 400 {
        bail!(
            "app {:?} answered {method:?} with {}",
            flags.app_id,
            answer.describe()
        );
    }
    if !answer.body.is_empty() {
        context.screen.write(&answer.body);
        if !answer.body.ends_with(b"\n") {
            context.screen.line("");
        }
    }
    context.screen.success("App invoked successfully");
    Ok(0)
}

/// The bytes to send.
pub(crate) fn data(text: Option<String>, file: Option<PathBuf>) -> Result<Bytes> {
    match file {
        Some(path) => Ok(std::fs::read(&path)
            .with_context(|| format!("cannot read {}", path.display()))?
            .into()),
        None => Ok(text.unwrap_or_default().into()),
    }
}
