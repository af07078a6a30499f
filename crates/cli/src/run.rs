//! `outrigger run`: an app with its sidecar, or several from a run file.

pub(crate) mod file;
pub(crate) mod many;
pub(crate) mod options;
pub(crate) mod pair;
pub(crate) mod resolve;
pub(crate) mod voice;
pub(crate) mod wish;

use crate::commands::Context;
use crate::hub::{self, Life};
use crate::instances;
use anyhow::{Result, bail};
use clap::Args;
use options::{Shared, Single};
use outrigger_hub::client::Client;
use pair::{FAILED, Pair};
use std::path::{Path, PathBuf};
use tokio::sync::watch;
use voice::{Speaker, Voice};
use wish::Wish;

/// Run an app with its sidecar, or all apps of a run file
#[derive(Debug, Args)]
#[command(
    long_about = "Run an app with its sidecar, or all apps of a run file.\n\n\
        The sidecar is started first; once it can be used, the app is started with DAPR_HTTP_PORT, DAPR_GRPC_PORT, APP_ID \
        and the like in its environment. Both end together: when one ends, so does the other; Ctrl-C stops the app, then \
        the sidecar; a second Ctrl-C kills both. Without --resources-path the app has a state store called statestore and \
        a broker called pubsub, both durable, in this machine's hub, which is started when needed.",
    after_help = "Examples:\n  \
        outrigger run --app-id shop --app-port 8080 -- python3 app.py\n  \
        outrigger run --app-id probe --dapr-http-port 3500            (a sidecar alone)\n  \
        outrigger run -f examples/orders/embedded.yaml                (several apps)\n\n\
        Exit codes: the app's own; 128 and the number of the signal that ended it; 0 when it was stopped on request; \
        125 Outrigger itself failed (hub or sidecar), 127 the command was not found, 126 it could not be executed, \
        2 wrong usage. With -f: 0, or the first failure in the order of the file."
)]
pub(crate) struct Flags {
    /// Run the apps of this run file, or of the dapr.yaml in this folder; - reads standard input
    #[arg(long = "run-file", short = 'f', value_name = "FILE|DIR")]
    run_file: Option<PathBuf>,

    /// Do without the hub: no embedded broker and store, apps find each other by multicast DNS
    #[arg(long)]
    no_hub: bool,

    #[command(flatten)]
    single: Single,

    #[command(flatten)]
    shared: Shared,

    /// Kubernetes is not available
    #[arg(long, short = 'k', hide = true)]
    kubernetes: bool,
}

pub(crate) async fn run(flags: Flags, context: &Context) -> Result<u8> {
    let (sender, wish) = watch::channel(Wish::Run);
    let work = async {
        if flags.kubernetes {
            bail!("running on Kubernetes is not available in this version of Outrigger");
        }
        match flags.run_file.clone() {
            Some(file) => many::run(&file, &flags, context, wish).await,
            None => single(flags, context, wish).await,
        }
    };
    // Whatever goes wrong on our side must not look like an answer of the app.
    let done = tokio::select! {
        done = work => done,
        Err(error) = wish::listen(sender) => Err(error),
    };
    done.or_else(|error| {
        context.screen.failure(&format!("{error:#}"));
        Ok(FAILED)
    })
}

async fn single(flags: Flags, context: &Context, wish: watch::Receiver<Wish>) -> Result<u8> {
    let screen = context.screen;
    if flags.single.command.is_empty() {
        screen.warning("there is no app command: running a sidecar alone");
    }
    if flags.shared.components_path.is_some() {
        screen.warning("--components-path is deprecated; use --resources-path");
    }
    let known = instances::ids()?;
    let folder = Path::new(&context.environment.working_directory);
    let mut chosen = resolve::Chosen::default();
    let app = resolve::app(
        flags.single,
        flags.shared,
        folder,
        &context.home,
        &known,
        &mut chosen,
    )?;
    let program = context.home.sidecar()?;
    let hub = hub(flags.no_hub, context, wish.clone()).await?;
    let socket = hub.as_ref().map(|hub| hub.socket().to_owned());
    drop(chosen);
    let pair = Pair {
        app: &app,
        home: context.home.path(),
        program: &program,
        environment: &context.environment,
        hub: socket.as_deref(),
        screen,
        app_voice: Voice::console(Speaker::App, screen),
        sidecar_voice: Voice::console(Speaker::Sidecar, screen),
        label: String::new(),
        metadata: Vec::new(),
        sidecar_log: None,
        host: None,
    };
    Ok(beside_hub(context, hub, Box::pin(pair.run(wish))).await)
}

/// Does the work while a hub is kept there for it, which does not count as idle meanwhile.
async fn beside_hub<T>(context: &Context, hub: Option<Client>, work: impl Future<Output = T>) -> T {
    let Some(hub) = hub else { return work.await };
    tokio::select! {
        done = work => done,
        never = hub::keep(&context.home, hub, context.screen) => match never {},
    }
}

/// This home's hub, unless it is not wanted.
async fn hub(none: bool, context: &Context, mut wish: watch::Receiver<Wish>) -> Result<Option<Client>> {
    if none {
        return Ok(None);
    }
    tokio::select! {
        hub = hub::ensure(&context.home, Life::OfItsOwn) => hub.map(Some),
        _ = wish::stopped(&mut wish) => bail!("interrupted while the hub was starting"),
    }
}

impl Flags {
    /// Whether there are options that a run file would say instead.
    fn beside_the_run_file(&self) -> bool {
        let same = Shared {
            log_as_json: self.shared.log_as_json,
            ..Shared::default()
        };
        self.single != Single::default() || self.shared != same
    }
}
