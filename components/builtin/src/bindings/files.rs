//! `bindings.localstorage`: files below one folder.
//!
//! INVARIANT: no operation touches a file outside of the folder, whatever name it is given; a symbolic link within the
//! folder is followed as if the folder were the root of the file system ([`path`]).
//!
//! COMPAT(components-contrib bindings/localstorage): operations, answers, texts, which folders are refused, and that data in
//! base64 is stored decoded. Unlike there, a file is replaced as a whole: who reads it sees the old or the new one.

mod path;
#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use outrigger_component::Component;
use outrigger_component::binding::{Failed, Invoke, Output, OutputBinding};
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::options::{Opt, REQUIRED, opt};
use outrigger_component::setup::Setup;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use uuid::Uuid;

const CREATE: &str = "create";
const GET: &str = "get";
const LIST: &str = "list";
const DELETE: &str = "delete";

/// Most files that one list names; a folder with more is an error.
const MOST_LISTED: usize = 100_000;

/// What can be written under its `metadata`.
pub(crate) const OPTIONS: &[Opt] = &[opt(
    "rootPath",
    REQUIRED,
    "the folder; made if it is missing; `/proc`, `/sys`, `/boot` and `/var/run/secrets` are refused",
)];

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    #[serde(default)]
    pub root_path: String,
}

pub struct Files {
    root: PathBuf,
}

impl Files {
    /// Creates the folder if it is missing.
    ///
    /// # Errors
    /// `Invalid` without a folder, for a file, and for places where nobody should write.
    pub async fn build(setup: Setup<Config>) -> Result<Self> {
        let root = setup.config.root_path;
        blocking(move || Self::open(&root)).await
    }

    fn open(root: &str) -> Result<Self> {
        let bad = |text: String| Error::invalid(format!("failed to parse metadata: {text}"));
        if root.is_empty() {
            return Err(bad("property rootPath must not be empty".to_owned()));
        }
        let absolute = std::path::absolute(root).map_err(|error| bad(error.to_string()))?;
        let root = path::resolved(&absolute).map_err(|error| bad(error.to_string()))?;
        if path::is_refused(&root) {
            return Err(bad("property rootPath points to a disallowed location".to_owned()));
        }
        fs::create_dir_all(&root).map_err(|error| {
            let text = format!(
                "unable to create directory specified by 'rootPath' {}",
                root.display()
            );
            Error::caused(Kind::Invalid, &text, error)
        })?;
        Ok(Self { root })
    }

    fn create(&self, name: &str, data: &Bytes) -> Result<Output> {
        let name = if name.is_empty() {
            Uuid::new_v4().to_string()
        } else {
            name.to_owned()
        };
        let path = self.path(&name)?;
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder)
            .map_err(|error| failed(&format!("error creating directory {}", folder.display()), error))?;
        if path.is_dir() {
            return Err(Error::invalid(format!(
                "error creating file {}: it is a directory",
                path.display()
            )));
        }
        replace(&path, &decoded(data))
            .map_err(|error| failed(&format!("error creating file {}", path.display()), error))?;
        let relative = path.strip_prefix(&self.root).unwrap_or(&path);
        let answer = serde_json::json!({"fileName": relative.to_string_lossy()});
        Ok(output(answer.to_string()))
    }

    fn get(&self, name: &str) -> Result<Output> {
        let path = self.path(name)?;
        match fs::read(&path) {
            Ok(content) => Ok(output(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::new(
                Kind::NotFound,
                format!("file not found: {}", path.display()),
            )),
            Err(error) => Err(failed(&format!("error reading file {}", path.display()), error)),
        }
    }

    fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name)?;
        let what = format!("error deleting file {}", path.display());
        if path == self.root {
            return Err(Error::invalid(format!("{what}: it is rootPath itself")));
        }
        let removed = if path.is_dir() {
            fs::remove_dir(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.map_err(|error| failed(&what, error))
    }

    fn list(&self, name: &str) -> Result<Output> {
        let path = self.path(name)?;
        let shown = path.display();
        let found = fs::metadata(&path)
            .map_err(|error| failed(&format!("error getting stats for path {shown}"), error))?;
        if !found.is_dir() {
            return Err(Error::invalid(format!(
                "unable to list files as the file specified is not a directory: {shown}"
            )));
        }
        let mut files = Vec::new();
        walk(&path, &mut files)
            .map_err(|error| failed(&format!("error listing files in the directory {shown}"), error))?;
        // COMPAT: no file at all is shown as null.
        let answer = if files.is_empty() {
            "null".to_owned()
        } else {
            serde_json::json!(files).to_string()
        };
        Ok(output(answer))
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        path::within(&self.root, name)
            .map_err(|error| failed(&format!("error getting absolute path for file {name}"), error))
    }
}

impl Component for Files {}

#[async_trait::async_trait]
impl OutputBinding for Files {
    fn operations(&self) -> &[&'static str] {
        &[CREATE, GET, LIST, DELETE]
    }

    async fn invoke(&self, invoke: Invoke) -> Result<Option<Output>, Failed> {
        let files = Self {
            root: self.root.clone(),
        };
        let done = blocking(move || {
            let name = invoke.metadata.get("fileName").unwrap_or_default();
            match invoke.operation.as_str() {
                CREATE => files.create(name, &invoke.data).map(Some),
                GET => files.get(name).map(Some),
                LIST => files.list(name).map(Some),
                DELETE => files.delete(name).map(|()| None),
                other => Err(Error::invalid(format!("unsupported operation {other}"))),
            }
        });
        done.await.map_err(Failed::from)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Error::caused(
            Kind::Internal,
            "the work on files ended early",
            error,
        )),
    }
}

/// Data may be a JSON text, and that, or the data itself, base64.
fn decoded(data: &Bytes) -> Bytes {
    let unquoted = match serde_json::from_slice::<String>(data) {
        Ok(text) => Bytes::from(text),
        Err(_) => data.clone(),
    };
    // COMPAT(Go's base64 decoder): line ends do not count.
    let bare: Vec<u8> = unquoted
        .iter()
        .copied()
        .filter(|byte| !matches!(byte, b'\r' | b'\n'))
        .collect();
    match BASE64.decode(bare) {
        Ok(bytes) => bytes.into(),
        Err(_) => unquoted,
    }
}

/// Writes beside the file, then takes its place.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no name"))?;
    let mut beside = name.to_owned();
    beside.push(format!(".{}.tmp", Uuid::new_v4()));
    let beside = path.with_file_name(beside);
    let written = fs::File::create_new(&beside)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // The first error is the one to tell; what is left over may not even exist.
        let _removed = fs::remove_file(&beside);
    }
    written
}

/// All files below a folder, in the order of their names; links are named, not followed.
fn walk(folder: &Path, files: &mut Vec<String>) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), files)?;
        } else if files.len() < MOST_LISTED {
            files.push(entry.path().to_string_lossy().into_owned());
        } else {
            return Err(io::Error::other(format!(
                "there are more than {MOST_LISTED} files"
            )));
        }
    }
    Ok(())
}

fn output(data: impl Into<Bytes>) -> Output {
    Output {
        data: data.into(),
        metadata: Metadata::new(),
    }
}

fn failed(what: &str, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => Kind::NotFound,
        io::ErrorKind::PermissionDenied => Kind::PermissionDenied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::Exhausted,
        io::ErrorKind::InvalidInput => Kind::Invalid,
        _ => Kind::Internal,
    };
    Error::caused(kind, what, error)
}
