//! `outrigger logs`: what the apps of a run file and their sidecars have written.

use crate::commands::Context;
use crate::instances;
use crate::run::file;
use crate::run::many;
use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between two looks at files that are followed.
const PAUSE: Duration = Duration::from_millis(200);

/// Show the log files of apps that were started from a run file
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  outrigger logs --app-id shop                 (of an app that runs)\n  \
    outrigger logs -f dapr.yaml --app-id shop    (also after it has ended)\n  \
    outrigger logs -a shop --of daprd --follow\n\n\
    The files are in .dapr/logs of the app's folder. Apps that were started alone write to their terminal only."
)]
pub(crate) struct Flags {
    /// The app
    #[arg(long, short = 'a', value_name = "ID")]
    app_id: String,

    /// Look for the newest logs of the app in this run file, whether or not it runs
    #[arg(long, short = 'f', value_name = "FILE|DIR")]
    run_file: Option<PathBuf>,

    /// Whose log
    #[arg(long, value_enum, default_value = "app")]
    of: Whose,

    /// Begin with the last lines only
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,

    /// Go on with what is written from now on, until Ctrl-C
    #[arg(long)]
    follow: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Whose {
    App,
    Daprd,
}

pub(crate) async fn run(flags: &Flags, context: &Context) -> Result<u8> {
    let path = match &flags.run_file {
        Some(given) => newest(flags, given, context)?,
        None => of_running(flags, context).await?,
    };
    let mut file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {}", path.display()))?;
    context.screen.write(match flags.tail {
        Some(lines) => last(&bytes, lines),
        None => &bytes,
    });
    if flags.follow {
        follow(&mut file, &path, context).await?;
    }
    Ok(0)
}

/// Shows what is written from here on, until the process is ended.
async fn follow(file: &mut File, path: &Path, context: &Context) -> Result<()> {
    let mut bytes = Vec::new();
    loop {
        tokio::time::sleep(PAUSE).await;
        // A file that was cut short begins anew.
        if file.metadata()?.len() < file.stream_position()? {
            file.seek(SeekFrom::Start(0))?;
        }
        bytes.clear();
        file.read_to_end(&mut bytes)
            .with_context(|| format!("cannot read {}", path.display()))?;
        if !bytes.is_empty() {
            context.screen.write(&bytes);
        }
    }
}

async fn of_running(flags: &Flags, context: &Context) -> Result<PathBuf> {
    let instance = instances::of(&flags.app_id, context).await?;
    let path = match flags.of {
        Whose::App => instance.app_log_path,
        Whose::Daprd => instance.daprd_log_path,
    };
    if path.is_empty() {
        bail!(
            "app {:?} writes no log file of this kind: it was started alone, or its run file sends the log to the console",
            flags.app_id
        );
    }
    Ok(path.into())
}

fn newest(flags: &Flags, given: &Path, context: &Context) -> Result<PathBuf> {
    let home = context.environment.get("HOME");
    let folder = Path::new(&context.environment.working_directory);
    let run_file = file::read(given, folder, home.as_deref())?;
    let is_it = |entry: &&file::Entry| entry.single.app_id.as_deref() == Some(&flags.app_id);
    let entry = run_file.apps.iter().find(is_it);
    let entry =
        entry.with_context(|| format!("{} has no app {:?}", run_file.path.display(), flags.app_id))?;
    let logs = many::logs(&entry.folder);
    let kind = match flags.of {
        Whose::App => "app",
        Whose::Daprd => "daprd",
    };
    let start = format!("{}_{kind}_", flags.app_id);
    let mut names = Vec::new();
    if logs.is_dir() {
        for entry in fs::read_dir(&logs).with_context(|| format!("cannot read {}", logs.display()))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
    }
    // The names end with the time, so the last one is the newest.
    let newest = names
        .into_iter()
        .filter(|name| name.starts_with(&start) && name.ends_with(".log"))
        .max();
    let newest = newest.with_context(|| {
        format!(
            "there is no {kind} log of app {:?} in {}",
            flags.app_id,
            logs.display()
        )
    })?;
    Ok(logs.join(newest))
}

/// The last lines of a text.
fn last(bytes: &[u8], lines: usize) -> &[u8] {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let mut breaks = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    match lines.checked_sub(1) {
        None => &[],
        Some(before) => match breaks.nth(before) {
            Some((at, _)) => bytes.get(at + 1..).unwrap_or_default(),
            None => bytes,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::last;

    #[test]
    fn last_lines() {
        for (lines, expected) in [
            (0, ""),
            (1, "c\n"),
            (2, "b\nc\n"),
            (3, "a\nb\nc\n"),
            (9, "a\nb\nc\n"),
        ] {
            assert_eq!(last(b"a\nb\nc\n", lines), expected.as_bytes(), "{lines}");
        }
        assert_eq!(last(b"a\nb", 1), b"b");
        assert_eq!(last(b"", 1), b"");
    }
}
