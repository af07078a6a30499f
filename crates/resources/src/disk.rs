//! Resource files in folders: the only module that touches a file.
//!
//! [`read`] reads every `.yaml` and `.yml` of the folders once (not their subfolders, in the order of their names) and
//! cuts them into documents; [`Documents::load`] gives those of one kind; [`select`] keeps what is meant for this app.
//! Whatever is broken becomes a [`Warning`] for the caller to log and is skipped; only a folder that cannot be listed
//! is an [`Error`]. Nothing is resolved: references and templates stay as written.

use crate::component::{self, Component};
use crate::configuration::{self, Configuration};
use crate::expand;
use crate::go::quote::quote;
use crate::http_endpoint::HttpEndpoint;
use crate::resiliency::Resiliency;
use crate::subscription::{self, Subscription};
use crate::yaml::node::Node;
use crate::yaml::{self, Dialect};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Longest file read, in bytes.
pub const MAX_FILE: u64 = 16 << 20;

/// A kind of document that lives in resource folders.
pub trait Resource: DeserializeOwned {
    const KIND: &'static str;
    const API_VERSIONS: &'static [&'static str];
    /// The namespace counts and no two may have the same name; otherwise only scopes count.
    const NAMED: bool;

    fn name(&self) -> &str;
    fn namespace(&self) -> &str;
    fn scopes(&self) -> &[String];
    /// As messages name it.
    fn log_name(&self) -> String {
        self.name().to_owned()
    }
}

/// `metadata` of a document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Header {
    pub(crate) name: String,
    pub(crate) namespace: String,
}

/// A folder that cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read resource folder {}: {source}", folder.display())]
pub struct Error {
    pub folder: PathBuf,
    pub source: io::Error,
}

/// Something that was skipped; the caller logs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub file: PathBuf,
    /// Which document of the file, counted from 1; absent when the whole file is concerned.
    pub document: Option<usize>,
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(document) = self.document {
            write!(f, ", document {document}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Every document of some folders, parsed but not yet typed.
#[derive(Default)]
pub struct Documents {
    documents: Vec<Document>,
    /// What could not be read at all.
    pub warnings: Vec<Warning>,
}

struct Document {
    file: PathBuf,
    /// Counted from 1.
    number: usize,
    lines_before: usize,
    api_version: String,
    kind: String,
    name: String,
    node: Node,
}

/// The resources of one kind, and what had to be skipped.
#[derive(Debug)]
pub struct Loaded<T> {
    pub items: Vec<T>,
    pub warnings: Vec<Warning>,
}

/// Reads all folders, in the order given.
pub fn read<P: AsRef<Path>>(folders: &[P]) -> Result<Documents, Error> {
    let mut documents = Documents::default();
    for folder in folders {
        let folder = folder.as_ref();
        let failed = |source| Error {
            folder: folder.to_owned(),
            source,
        };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if !entry.file_type().map_err(failed)?.is_dir() {
                files.push(entry.path());
            }
        }
        files.sort();
        for file in files {
            documents.add_file(file);
        }
    }
    Ok(documents)
}

/// Reads Configuration files and lays them over each other; `variable` answers `$NAME` and `${NAME}` in their text.
pub fn configuration<P: AsRef<Path>>(
    files: &[P],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Configuration, ConfigurationError> {
    let mut texts = Vec::with_capacity(files.len());
    for file in files {
        let name = file.as_ref().display().to_string();
        let bytes = bytes(file.as_ref()).map_err(|source| ConfigurationError::Unreadable {
            file: name.clone(),
            source,
        })?;
        let text = yaml::text(&bytes).map_err(|source| configuration::Error::Yaml {
            file: name.clone(),
            source,
        })?;
        texts.push((name, expand::expand(text, &variable).into_owned()));
    }
    let files = texts.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    Ok(Configuration::parse(files)?)
}

/// Why Configuration files could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    #[error("cannot read configuration {file}: {source}")]
    Unreadable { file: String, source: io::Error },
    #[error(transparent)]
    Invalid(#[from] configuration::Error),
}

impl Documents {
    /// Documents of a text, as if it were a file of that name.
    pub fn of_text(file: impl Into<PathBuf>, text: &str) -> Self {
        let mut documents = Self::default();
        documents.add_text(&file.into(), text);
        documents
    }

    /// Everything of kind `T`, in the order of folders, files and documents. Documents of other kinds are passed over.
    pub fn load<T: Resource>(&self) -> Loaded<T> {
        let mut loaded = Loaded {
            items: Vec::new(),
            warnings: Vec::new(),
        };
        for document in &self.documents {
            if document.kind != T::KIND || !T::API_VERSIONS.contains(&document.api_version.as_str()) {
                continue;
            }
            let outcome = match bad_name(&document.name) {
                Some(why) => Err(format!(
                    "invalid name {} for {}: {why}",
                    quote(&document.name),
                    quote(T::KIND)
                )),
                None => yaml::decode::<T>(&document.node, Dialect::Resource)
                    .map_err(|error| error.shifted(document.lines_before).to_string()),
            };
            match outcome {
                Ok(item) => loaded.items.push(item),
                Err(message) => loaded.warnings.push(Warning {
                    file: document.file.clone(),
                    document: Some(document.number),
                    message: format!("the {} is skipped: {message}", T::KIND),
                }),
            }
        }
        loaded
    }

    fn add_file(&mut self, file: PathBuf) {
        let is_yaml = file
            .extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("yaml") || end.eq_ignore_ascii_case("yml"));
        let outcome = if is_yaml {
            bytes(&file)
                .map_err(|error| error.to_string())
                .and_then(|bytes| match yaml::text(&bytes) {
                    Ok(text) => {
                        self.add_text(&file, text);
                        Ok(())
                    }
                    Err(error) => Err(error.to_string()),
                })
        } else {
            Err("not a .yaml or .yml file, it is not loaded".to_owned())
        };
        if let Err(message) = outcome {
            self.warnings.push(Warning {
                file,
                document: None,
                message,
            });
        }
    }

    fn add_text(&mut self, file: &Path, text: &str) {
        for yaml::Document {
            index,
            lines_before,
            text,
        } in yaml::split(text)
        {
            let number = index + 1;
            match typed(text) {
                Ok((head, node)) => self.documents.push(Document {
                    file: file.to_owned(),
                    number,
                    lines_before,
                    api_version: head.api_version,
                    kind: head.kind,
                    name: head.metadata.name,
                    node,
                }),
                Err(error) => self.warnings.push(Warning {
                    file: file.to_owned(),
                    document: Some(number),
                    message: error.shifted(lines_before).to_string(),
                }),
            }
        }
    }
}

/// For whom resources are selected.
#[derive(Debug, Clone, Copy)]
pub struct Audience<'a> {
    pub app_id: &'a str,
    /// `None` when the process was given no namespace: then those of documents do not matter either.
    pub namespace: Option<&'a str>,
}

/// Two resources of one name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", texts.join("\n"))]
pub struct Duplicates {
    /// In the reference's words.
    pub texts: Vec<String>,
}

/// Keeps what is in the namespace and scope of an app.
/// COMPAT(pkg/internal/loader/disk/disk.go): a duplicate counts even when it is out of scope, but only against one that
/// is in scope; all duplicates are reported, against the first of the name.
pub fn select<T: Resource>(items: Vec<T>, audience: Audience<'_>) -> Result<Vec<T>, Duplicates> {
    let mut names: HashMap<String, String> = HashMap::new();
    let mut selected = Vec::with_capacity(items.len());
    let mut texts = Vec::new();
    for item in items {
        if T::NAMED {
            let elsewhere = |namespace: &str| !item.namespace().is_empty() && item.namespace() != namespace;
            if audience.namespace.is_some_and(elsewhere) {
                continue;
            }
            if let Some(existing) = names.get(item.name()) {
                texts.push(format!(
                    "duplicate definition of {} name {} with existing {existing}",
                    T::KIND,
                    item.log_name()
                ));
                continue;
            }
        }
        if !item.scopes().is_empty() && !item.scopes().iter().any(|app| app == audience.app_id) {
            continue;
        }
        names.insert(item.name().to_owned(), item.log_name());
        selected.push(item);
    }
    if texts.is_empty() {
        Ok(selected)
    } else {
        Err(Duplicates { texts })
    }
}

/// What tells a document's kind.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Head {
    api_version: String,
    kind: String,
    metadata: Header,
}

fn typed(text: &str) -> Result<(Head, Node), yaml::Error> {
    let node = yaml::parse(text, Dialect::Resource)?;
    let head = yaml::decode(&node, Dialect::Resource)?;
    Ok((head, node))
}

/// COMPAT(k8s.io/apimachinery api/validation/path): names become URL segments.
fn bad_name(name: &str) -> Option<&'static str> {
    match name {
        "." => Some("may not be '.'"),
        ".." => Some("may not be '..'"),
        _ if name.contains('/') => Some("may not contain '/'"),
        _ if name.contains('%') => Some("may not contain '%'"),
        _ => None,
    }
}

fn bytes(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!(
            "larger than {MAX_FILE} bytes; split it"
        )));
    }
    Ok(bytes)
}

impl Resource for Component {
    const KIND: &'static str = "Component";
    const API_VERSIONS: &'static [&'static str] = &["dapr.io/v1alpha1"];
    const NAMED: bool = true;

    fn name(&self) -> &str {
        &self.name
    }
    fn namespace(&self) -> &str {
        &self.namespace
    }
    fn scopes(&self) -> &[String] {
        &self.scopes
    }
    fn log_name(&self) -> String {
        component::log_name(&self.name, &self.kind, &self.version)
    }
}

impl Resource for HttpEndpoint {
    const KIND: &'static str = "HTTPEndpoint";
    const API_VERSIONS: &'static [&'static str] = &["dapr.io/v1alpha1"];
    const NAMED: bool = true;

    fn name(&self) -> &str {
        &self.name
    }
    fn namespace(&self) -> &str {
        &self.namespace
    }
    fn scopes(&self) -> &[String] {
        &self.scopes
    }
    fn log_name(&self) -> String {
        format!("{} ({})", self.name, self.base_url)
    }
}

impl Resource for Subscription {
    const KIND: &'static str = "Subscription";
    const API_VERSIONS: &'static [&'static str] = &[subscription::V1, subscription::V2];
    const NAMED: bool = false;

    fn name(&self) -> &str {
        &self.name
    }
    fn namespace(&self) -> &str {
        &self.namespace
    }
    fn scopes(&self) -> &[String] {
        &self.scopes
    }
}

impl Resource for Resiliency {
    const KIND: &'static str = "Resiliency";
    const API_VERSIONS: &'static [&'static str] = &["dapr.io/v1alpha1"];
    const NAMED: bool = false;

    fn name(&self) -> &str {
        &self.name
    }
    fn namespace(&self) -> &str {
        &self.namespace
    }
    fn scopes(&self) -> &[String] {
        &self.scopes
    }
}

#[cfg(test)]
mod tests;
