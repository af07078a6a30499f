//! All apps of a run file, side by side. One that ends leaves the others running, as with the reference.

use super::Flags;
use super::file::{self, Entry, RunFile};
use super::options::Destination;
use super::pair::Pair;
use super::resolve::{self, App};
use super::voice::{Speaker, Voice};
use super::wish::Wish;
use crate::commands::Context;
use crate::home;
use crate::instances;
use anyhow::{Context as _, Result};
use std::fs::File;
use std::path::{Path, PathBuf};
use tokio::sync::watch;

/// A log file of one app, and where it is.
struct LogFile {
    path: PathBuf,
    file: File,
}

pub(super) async fn run(
    given: &Path,
    flags: &Flags,
    context: &Context,
    wish: watch::Receiver<Wish>,
) -> Result<u8> {
    let screen = context.screen;
    if flags.beside_the_run_file() {
        screen.warning("options of a single app are ignored with --run-file; say them in the run file");
    }
    let user_home = context.environment.get("HOME");
    let folder = Path::new(&context.environment.working_directory);
    let RunFile {
        path,
        name,
        apps: entries,
        warnings,
    } = file::read(given, folder, user_home.as_deref())?;
    for warning in &warnings {
        screen.warning(&format!("{}: {warning}", path.display()));
    }
    let known = instances::ids()?;
    let mut chosen = resolve::Chosen::default();
    let mut apps = Vec::new();
    for Entry {
        folder,
        single,
        mut shared,
    } in entries
    {
        shared.log_as_json = flags.shared.log_as_json;
        apps.push(resolve::app(
            single,
            shared,
            &folder,
            &context.home,
            &known,
            &mut chosen,
        )?);
    }
    let program = context.home.sidecar()?;
    let hub = super::hub(flags.no_hub, context, wish.clone()).await?;
    let socket = hub.as_ref().map(|hub| hub.socket().to_owned());
    drop(chosen);
    let now = jiff::Zoned::now().strftime("%Y%m%d%H%M%S").to_string();
    let mut pairs = Vec::new();
    for app in &apps {
        let (app_to, sidecar_to) = destinations(app);
        let app_log = log(app, "app", app_to, &now)?;
        let sidecar_log = log(app, "daprd", sidecar_to, &now)?;
        let mut metadata = vec![
            ("runTemplatePath", path.display().to_string()),
            ("runTemplateName", name.clone()),
        ];
        for (key, log) in [("appLogPath", &app_log), ("daprdLogPath", &sidecar_log)] {
            metadata.extend(log.as_ref().map(|log| (key, log.path.display().to_string())));
        }
        if let Some(log) = app_log.as_ref().or(sidecar_log.as_ref()) {
            let folder = log.path.parent().unwrap_or(&log.path).display();
            screen.info(&format!("{}: writing log files to the folder {folder}", app.id));
        }
        pairs.push(Pair {
            app,
            home: context.home.path(),
            program: &program,
            environment: &context.environment,
            hub: socket.as_deref(),
            screen,
            sidecar_log: sidecar_log.as_ref().map(|log| log.path.clone()),
            app_voice: Voice::of(Speaker::App, &app.id, app_to, screen, app_log.map(|log| log.file)),
            sidecar_voice: Voice::of(
                Speaker::Sidecar,
                &app.id,
                sidecar_to,
                screen,
                sidecar_log.map(|log| log.file),
            ),
            label: format!("{}: ", app.id),
            metadata,
            // COMPAT(dapr/cli cmd/run.go): apps of a run file meet on the loopback interface.
            host: Some("127.0.0.1"),
        });
    }
    let all = futures::future::join_all(pairs.iter().map(|pair| pair.run(wish.clone())));
    let codes = super::beside_hub(context, hub, Box::pin(all)).await;
    Ok(codes.into_iter().find(|code| *code != 0).unwrap_or(0))
}

fn destinations(app: &App) -> (Destination, Destination) {
    let app_to = app
        .shared
        .app_log_destination
        .unwrap_or(Destination::FileAndConsole);
    (
        app_to,
        app.shared.daprd_log_destination.unwrap_or(Destination::File),
    )
}

/// COMPAT(dapr/cli pkg/runfileconfig): `<appDirPath>/.dapr/logs/<id>_<kind>_<time>.log`.
fn log(app: &App, kind: &str, to: Destination, now: &str) -> Result<Option<LogFile>> {
    if !to.file() {
        return Ok(None);
    }
    let folder = logs(&app.folder);
    home::create(&folder)?;
    let path = folder.join(format!("{}_{kind}_{now}.log", app.id));
    let file =
        File::create(&path).with_context(|| format!("cannot create the log file {}", path.display()))?;
    Ok(Some(LogFile { path, file }))
}

/// Where the logs of an app of a run file are.
pub(crate) fn logs(app_folder: &Path) -> PathBuf {
    app_folder.join(".dapr/logs")
}
