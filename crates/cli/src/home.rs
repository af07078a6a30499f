//! The folder where everything of one user lives: default resources, the hub's data, the link named `daprd`.

use anyhow::{Context, Result, bail};
use outrigger_sidecar::config::Environment;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Says which home, where `--home` does not. Sidecars are given it, so that commands know whose they are.
pub(crate) const VARIABLE: &str = "OUTRIGGER_HOME";

/// Resources that stand for "no YAML at all".
pub(crate) const DEFAULTS: [(&str, &str); 4] = [
    ("statestore.yaml", include_str!("home/statestore.yaml")),
    ("pubsub.yaml", include_str!("home/pubsub.yaml")),
    ("configstore.yaml", include_str!("home/configstore.yaml")),
    ("lockstore.yaml", include_str!("home/lockstore.yaml")),
];

/// `~/.outrigger`, `OUTRIGGER_HOME` or `--home`; absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Home {
    path: PathBuf,
}

/// How to start a sidecar: a program and the arguments before its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) first: Vec<OsString>,
}

impl Home {
    pub(crate) fn find(given: Option<PathBuf>, environment: &Environment) -> Result<Self> {
        let path = match given.or_else(|| environment.get(VARIABLE).map(PathBuf::from)) {
            Some(path) => path,
            None => match environment.get("HOME") {
                Some(home) => Path::new(&home).join(".outrigger"),
                None => bail!("no home folder: HOME is not set; say where with --home or OUTRIGGER_HOME"),
            },
        };
        Ok(Self::at(Path::new(&environment.working_directory).join(path)))
    }

    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The user's own default resources; `init` writes the first ones.
    pub(crate) fn components(&self) -> PathBuf {
        self.path.join("components")
    }

    /// The user's default Configuration, if there is one.
    pub(crate) fn configuration(&self) -> Option<PathBuf> {
        Some(self.path.join("config.yaml")).filter(|path| path.is_file())
    }

    /// Resources for who names none: the user's, or else the built-in ones, which are written down so that the
    /// sidecar reads ordinary YAML.
    pub(crate) fn resources(&self) -> Result<PathBuf> {
        let own = self.components();
        if own.is_dir() {
            return Ok(own);
        }
        let defaults = self.path.join("defaults");
        create(&defaults)?;
        for (name, text) in DEFAULTS {
            let path = defaults.join(name);
            if fs::read_to_string(&path).is_ok_and(|present| present == text) {
                continue;
            }
            replace(&path, |new| fs::write(new, text))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(defaults)
    }

    /// This executable under the name `daprd`, which is what other tools look for in the list of processes.
    ///
    /// Where the file system allows neither a hard nor a symbolic link, `outrigger daprd`.
    pub(crate) fn sidecar(&self) -> Result<Program> {
        let own = std::env::current_exe().context("cannot find out where this executable is")?;
        let folder = self.path.join("bin");
        create(&folder)?;
        let link = folder.join("daprd");
        let linked = same(&own, &link)
            || replace(&link, |new| fs::hard_link(&own, new)).is_ok()
            || (own.exists() && replace(&link, |new| std::os::unix::fs::symlink(&own, new)).is_ok());
        Ok(match linked {
            true => Program {
                path: link,
                first: Vec::new(),
            },
            false => Program {
                path: itself(),
                first: vec!["daprd".into()],
            },
        })
    }

    /// What a hub that was started in the background says.
    pub(crate) fn hub_log(&self) -> PathBuf {
        outrigger_hub::config::folder(&self.path).join("hub.log")
    }
}

/// This executable, to start another role of it. When the file has been removed meanwhile, what runs still exists for
/// those we start.
pub(crate) fn itself() -> PathBuf {
    std::env::current_exe()
        .ok()
        .filter(|path| path.exists())
        .unwrap_or_else(|| "/proc/self/exe".into())
}

/// Makes a folder and those above it.
pub(crate) fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))
}

/// Whether both are the same file on disk.
fn same(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// Makes a file beside its place and moves it there, so that nobody ever sees half of it and a running program
/// of that name is not disturbed.
fn replace(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let new = path.with_file_name(name);
    let made = make(&new).and_then(|()| fs::rename(&new, path));
    if made.is_err() && fs::symlink_metadata(&new).is_ok() {
        fs::remove_file(&new)?;
    }
    made
}

#[cfg(test)]
mod tests;
