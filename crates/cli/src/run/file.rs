//! The run file: several apps in one YAML document, in the reference's format.
//!
//! COMPAT(dapr/cli pkg/runfileconfig): paths in `common` are relative to the file, those of an app to its
//! `appDirPath`; resources are the app's own, else `<appDirPath>/.dapr/resources`, else the common ones, else the
//! default; a Configuration likewise (`.dapr/config.yaml`).

use super::options::{Destination, Shared, Single};
use anyhow::{Context, Result, bail};
use outrigger_resources::yaml::node::{Kind, Node};
use outrigger_resources::yaml::{self, Dialect};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

const DIALECT: Dialect = Dialect::Configuration;
/// What a folder's run file is called.
const NAME: &str = "dapr.yaml";

const TOP: [&str; 4] = ["version", "name", "common", "apps"];
const COMMON: [&str; 22] = [
    "configFilePath",
    "appProtocol",
    "apiListenAddresses",
    "enableProfiling",
    "logLevel",
    "appMaxConcurrency",
    "placementHostAddress",
    "schedulerHostAddress",
    "resourcesPath",
    "resourcesPaths",
    "appSSL",
    "maxBodySize",
    "readBufferSize",
    "enableAppHealthCheck",
    "appHealthCheckPath",
    "appHealthProbeInterval",
    "appHealthProbeTimeout",
    "appHealthThreshold",
    "enableApiLogging",
    "env",
    "daprdLogDestination",
    "appLogDestination",
];
const APP: [&str; 11] = [
    "appID",
    "appDirPath",
    "appChannelAddress",
    "appPort",
    "daprHTTPPort",
    "daprGRPCPort",
    "profilePort",
    "command",
    "metricsPort",
    "unixDomainSocket",
    "daprInternalGRPCPort",
];
/// They describe the app's container on Kubernetes and mean nothing on one machine.
const KUBERNETES: [&str; 3] = ["containerImage", "containerImagePullPolicy", "createService"];
/// Where the reference's own sidecar was installed.
const RUNTIME_PATH: &str = "runtimePath";

/// A run file as it is meant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RunFile {
    /// Absolute; `-` when it came from standard input.
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) apps: Vec<Entry>,
    /// What was written but has no effect.
    pub(crate) warnings: Vec<String>,
}

/// One app of it. All paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) folder: PathBuf,
    pub(crate) single: Single,
    pub(crate) shared: Shared,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    #[serde(default)]
    app_dir_path: String,
}

#[derive(Deserialize)]
struct Top {
    #[serde(default)]
    version: i64,
    #[serde(default)]
    name: String,
}

/// Finds and reads a run file: a file, a folder that has one, or `-` for standard input.
///
/// # Errors
/// It cannot be read, is not a run file, or names something that does not exist; the message says where.
pub(crate) fn read(given: &Path, working_directory: &Path, user_home: Option<&str>) -> Result<RunFile> {
    let (path, text) = if given == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read a run file from standard input")?;
        (given.to_owned(), text)
    } else {
        let path = find(&working_directory.join(given))?;
        let bytes =
            fs::read(&path).with_context(|| format!("cannot read the run file {}", path.display()))?;
        let text = yaml::text(&bytes)
            .with_context(|| path.display().to_string())?
            .to_owned();
        (path, text)
    };
    let base = path
        .parent()
        .filter(|base| base.is_absolute())
        .unwrap_or(working_directory)
        .to_owned();
    parse(&text, &path, &base, user_home).with_context(|| format!("run file {}", path.display()))
}

/// The run file itself, given it or its folder.
pub(crate) fn find(given: &Path) -> Result<PathBuf> {
    let path =
        fs::canonicalize(given).with_context(|| format!("cannot find the run file {}", given.display()))?;
    if path.is_dir() {
        let inside = path.join(NAME);
        if !inside.is_file() {
            bail!("there is no {NAME} in the folder {}", path.display());
        }
        return Ok(inside);
    }
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("yaml" | "yml") => Ok(path),
        _ => bail!(
            "{} is not a YAML file; its name must end with .yaml or .yml",
            path.display()
        ),
    }
}

fn parse(text: &str, path: &Path, base: &Path, user_home: Option<&str>) -> Result<RunFile> {
    let node = yaml::parse(text, DIALECT)?;
    let mut warnings = Vec::new();
    unknown(&node, "", &[&TOP], &mut warnings);
    let top: Top = yaml::decode(&node, DIALECT)?;
    match top.version {
        1 => {}
        0 => bail!("`version` is missing; begin the file with `version: 1`"),
        other => bail!("`version: {other}` is not known; use `version: 1`"),
    }
    let at = |folder: &Path, path: &Path| absolute(folder, path, user_home);
    let mut common = Shared::default();
    if let Some(node) = node.get("common") {
        unknown(node, "common", &[&COMMON], &mut warnings);
        common = yaml::decode(node, DIALECT).context("in `common`")?;
        locate(&mut common, |path| at(base, path)).context("in `common`")?;
    }
    let nodes = match node.get("apps").map(|node| &node.kind) {
        Some(Kind::Sequence(nodes)) if !nodes.is_empty() => nodes,
        Some(Kind::Mapping(_)) => bail!("`apps` must be a list; begin each app with `- appID: …`"),
        _ => bail!("`apps` is missing or empty; there is nothing to run"),
    };
    let mut apps = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let place = format!("apps[{index}]");
        unknown(node, &place, &[&COMMON, &APP, &KUBERNETES], &mut warnings);
        let entry =
            entry(node, &common, &at, base).with_context(|| format!("in `{place}`, line {}", node.line))?;
        apps.push(entry);
    }
    let mut seen = BTreeSet::new();
    for id in apps.iter().filter_map(|entry| entry.single.app_id.as_deref()) {
        if !seen.insert(id) {
            bail!("two apps have the appID {id:?}; ids must differ");
        }
    }
    Ok(RunFile {
        path: path.to_owned(),
        name: top.name,
        apps,
        warnings,
    })
}

fn entry(
    node: &Node,
    common: &Shared,
    at: &impl Fn(&Path, &Path) -> Result<PathBuf>,
    base: &Path,
) -> Result<Entry> {
    let Place { app_dir_path } = yaml::decode(node, DIALECT)?;
    if app_dir_path.is_empty() {
        bail!("`appDirPath` is missing; say in which folder the app is (`.` is the run file's)");
    }
    let folder = at(base, Path::new(&app_dir_path))?;
    let mut single: Single = yaml::decode(node, DIALECT)?;
    let mut shared: Shared = yaml::decode(node, DIALECT)?;
    locate(&mut shared, |path| at(&folder, path))?;
    if shared.resources().is_empty() {
        let own = folder.join(".dapr/resources");
        shared.resources_paths = if own.is_dir() {
            vec![own]
        } else {
            common.resources()
        };
    }
    if shared.config.is_none() {
        shared.config = Some(folder.join(".dapr/config.yaml"))
            .filter(|own| own.is_file())
            .or(common.config.clone());
    }
    if single.app_id.as_ref().is_none_or(String::is_empty) {
        single.app_id = folder.file_name().map(|name| name.to_string_lossy().into_owned());
    }
    if let Some(command) = single.command.first().filter(|command| command.trim().is_empty()) {
        bail!("`command` begins with {command:?}; its first word must be a program");
    }
    let mut shared = shared.or(common);
    shared.daprd_log_destination.get_or_insert(Destination::File);
    shared
        .app_log_destination
        .get_or_insert(Destination::FileAndConsole);
    Ok(Entry {
        folder,
        single,
        shared,
    })
}

/// Makes the paths of a section absolute and sees that they exist.
fn locate(shared: &mut Shared, at: impl Fn(&Path) -> Result<PathBuf>) -> Result<()> {
    let paths = shared
        .config
        .iter_mut()
        .chain(&mut shared.components_path)
        .chain(&mut shared.resources_paths);
    for path in paths {
        *path = at(path)?;
    }
    Ok(())
}

fn absolute(folder: &Path, path: &Path, user_home: Option<&str>) -> Result<PathBuf> {
    let path = match (path.strip_prefix("~"), user_home) {
        (Ok(rest), Some(home)) => Path::new(home).join(rest),
        _ => folder.join(path),
    };
    fs::canonicalize(&path).with_context(|| format!("cannot find {}", path.display()))
}

/// Warns of keys that mean nothing, with the line.
fn unknown(node: &Node, place: &str, known: &[&[&str]], warnings: &mut Vec<String>) {
    let Kind::Mapping(entries) = &node.kind else {
        return;
    };
    for (key, value) in entries {
        let within = if place.is_empty() {
            String::new()
        } else {
            format!(" in {place}")
        };
        if known.iter().any(|names| names.contains(&key.as_str())) {
            continue;
        }
        if key == RUNTIME_PATH && !place.is_empty() {
            warnings.push(format!(
                "line {}: {key}{within} has no effect: Outrigger is its own sidecar",
                value.line
            ));
            continue;
        }
        let near = known
            .iter()
            .copied()
            .flatten()
            .find(|name| name.eq_ignore_ascii_case(key));
        let hint = near
            .map(|name| format!("; did you mean {name}?"))
            .unwrap_or_default();
        warnings.push(format!(
            "line {}: unknown key {key}{within} is ignored{hint}",
            value.line
        ));
    }
}

#[cfg(test)]
mod tests;
