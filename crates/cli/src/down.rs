//! `outrigger down`: ends what runs on this home's hub, then the hub.

use crate::commands::Context;
use crate::hub;
use crate::instances;
use crate::stop;
use anyhow::Result;
use clap::Args;
use outrigger_hub::client::gone;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(15);

/// Stop the apps that use this home's hub, then the hub itself
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  outrigger down\n  outrigger down --hub-only   (apps go on and wait for the next hub)\n\n\
    Nothing that was stored is removed. Exit codes: 0 nothing runs any more, 1 something did not end, 2 wrong usage."
)]
pub(crate) struct Flags {
    /// Leave the apps running; their calls to the hub fail until there is one again
    #[arg(long)]
    hub_only: bool,
}

pub(crate) async fn run(flags: &Flags, context: &Context) -> Result<u8> {
    let Some(client) = hub::find(&context.home).await? else {
        context.screen.info(&format!(
            "no hub runs for {}; nothing to do",
            context.home.path().display()
        ));
        return Ok(0);
    };
    let status = client.status().await?;
    let mut stopped = true;
    if !flags.hub_only {
        let mut instances = instances::list(&context.environment).await?;
        instances.retain(|instance| {
            status
                .instances
                .iter()
                .any(|known| known.pid == u64::from(instance.daprd_pid))
        });
        stopped = stop::all(&instances, context).await?;
    }
    client.shutdown().await?;
    drop(client);
    if !gone(context.home.path(), PATIENCE).await? {
        context.screen.failure(&format!(
            "the hub, process {}, was asked to end but still runs after {PATIENCE:?}",
            status.pid
        ));
        return Ok(1);
    }
    context.screen.success(&format!(
        "the hub, process {}, has ended; what it stored stays in {}",
        status.pid,
        context.home.path().display()
    ));
    Ok(u8::from(!stopped))
}
