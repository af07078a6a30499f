//! `cargo xtask tidy`: rules that a program can check.
//!
//! - the crate table of ARCHITECTURE.md names exactly the crates of the workspace, with exactly the dependencies
//!   that their manifests have, and no edge against the layers;
//! - a vendor is known only to `components/all`; `tonic` and friends only where the table of ARCHITECTURE.md says;
//! - files: none over 700 lines, each begins with a `//!` header, no drawer names, no `mod.rs`;
//! - every public error code has its page under docs/errors;
//! - versions stand in the root manifest only;
//! - links between our Markdown files lead somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

const LONGEST_FILE: usize = 700;
/// Names that hide what is inside (convention 4).
const DRAWERS: [&str; 6] = ["common", "types", "util", "utils", "helpers", "kit"];

/// Checks everything and reports all findings at once.
///
/// # Errors
/// When a rule is broken, or a file cannot be read.
#[expect(clippy::print_stdout, reason = "the result of a command-line tool")]
pub(crate) fn run() -> Result<()> {
    let findings = findings()?;
    for finding in &findings {
        println!("tidy: {finding}");
    }
    if findings.is_empty() {
        println!("tidy: all rules hold");
        return Ok(());
    }
    bail!("{} findings", findings.len())
}

/// One line per broken rule.
pub(crate) fn findings() -> Result<Vec<String>> {
    let root = crate::root()?;
    let mut findings = Vec::new();
    let crates = crates(&root)?;
    map(&root, &crates, &mut findings)?;
    manifests(&crates, &mut findings);
    sources(&root, &mut findings)?;
    error_pages(&root, &mut findings)?;
    links(&root, &mut findings)?;
    Ok(findings)
}

/// A crate of the workspace: its folder, our crates it depends on, and its manifest's text.
struct Crate {
    uses: BTreeSet<String>,
    manifest: String,
}

fn crates(root: &Path) -> Result<BTreeMap<String, Crate>> {
    let mut crates = BTreeMap::new();
    let mut folders: Vec<String> = vec![
        "testkit".into(),
        "tests".into(),
        "xtask".into(),
        "xtask/codegen".into(),
        "bench".into(),
    ];
    for parent in ["crates", "components"] {
        for entry in fs::read_dir(root.join(parent)).with_context(|| format!("cannot read {parent}/"))? {
            folders.push(format!("{parent}/{}", entry?.file_name().to_string_lossy()));
        }
    }
    for folder in folders {
        let path = root.join(&folder).join("Cargo.toml");
        if !path.exists() {
            continue;
        }
        let manifest =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        crates.insert(
            folder,
            Crate {
                uses: own_dependencies(&manifest),
                manifest,
            },
        );
    }
    Ok(crates)
}

/// Our crates in `[dependencies]`, by folder. Development dependencies do not ship and do not count.
fn own_dependencies(manifest: &str) -> BTreeSet<String> {
    let mut shipped = false;
    let mut uses = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            shipped = line.trim() == "[dependencies]";
        } else if shipped && let Some(rest) = line.strip_prefix("outrigger-") {
            let name: String = rest
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '-')
                .collect();
            uses.insert(folder_of(&name));
        }
    }
    uses
}

fn folder_of(package: &str) -> String {
    match package.strip_prefix("components-") {
        Some(vendor) => format!("components/{vendor}"),
        None => match package {
            "testkit" | "tests" | "xtask" | "bench" => package.to_owned(),
            other => format!("crates/{other}"),
        },
    }
}

/// The table in ARCHITECTURE.md: `| folder | sentence | depends on |`.
fn map(root: &Path, crates: &BTreeMap<String, Crate>, findings: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).context("cannot read ARCHITECTURE.md")?;
    let mut mapped = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let [name, _sentence, uses] = cells.as_slice() else {
            continue;
        };
        let name = name.trim_matches('`');
        let is_folder = ["crates/", "components/"]
            .iter()
            .any(|parent| name.starts_with(parent))
            || matches!(name, "testkit" | "tests" | "xtask" | "xtask/codegen" | "bench");
        if !line.starts_with('|') || !is_folder {
            continue;
        }
        let uses: BTreeSet<String> = uses
            .split([',', ' '])
            .map(|word| word.trim_matches('`'))
            .filter(|word| !matches!(*word, "" | "–" | "-"))
            .map(str::to_owned)
            .collect();
        if mapped.insert(name.to_owned(), (number + 1, uses)).is_some() {
            findings.push(format!(
                "ARCHITECTURE.md:{}: {name} stands twice in the crate table",
                number + 1
            ));
        }
    }
    let order: Vec<&String> = mapped.keys().collect();
    for (name, info) in crates {
        let Some((line, uses)) = mapped.get(name) else {
            findings.push(format!("ARCHITECTURE.md: the crate table lacks {name}"));
            continue;
        };
        if *uses != info.uses {
            findings.push(format!(
                "ARCHITECTURE.md:{line}: {name} is said to depend on {:?}, its manifest says {:?}",
                uses, info.uses
            ));
        }
        layers(name, info, findings);
    }
    for name in order {
        if !crates.contains_key(name) {
            findings.push(format!(
                "ARCHITECTURE.md: the crate table names {name}, which does not exist"
            ));
        }
    }
    Ok(())
}

/// Edges that must never be, whatever the table says.
fn layers(name: &str, info: &Crate, findings: &mut Vec<String>) {
    let vendor = name.starts_with("components/") && name != "components/all";
    for used in &info.uses {
        let wrong = match used.as_str() {
            "crates/sidecar" | "crates/api-http" | "crates/api-grpc" => {
                !matches!(name, "crates/cli" | "crates/sidecar" | "tests" | "testkit")
            }
            "crates/runtime" => {
                vendor
                    || matches!(
                        name,
                        "crates/hub" | "crates/channel" | "crates/component" | "crates/daemon"
                    )
            }
            other if other.starts_with("components/") => {
                !matches!(name, "components/all" | "crates/cli" | "tests")
            }
            "crates/proto" => {
                name == "crates/runtime"
                    || (vendor && !matches!(name, "components/embedded" | "components/pluggable"))
            }
            _ => false,
        };
        if wrong {
            findings.push(format!(
                "{name}/Cargo.toml: an edge to {used} is against the layers (ARCHITECTURE.md)"
            ));
        }
    }
}

fn manifests(crates: &BTreeMap<String, Crate>, findings: &mut Vec<String>) {
    for (name, info) in crates {
        for (number, line) in info.manifest.lines().enumerate() {
            let versioned = line.contains("version = \"")
                || line.split('=').nth(1).is_some_and(|value| {
                    value.trim().starts_with('"') && value.contains('.') && line.contains('-')
                });
            if versioned
                && !line.starts_with("description")
                && !line.starts_with("name")
                && !line.starts_with("path")
            {
                findings.push(format!(
                    "{name}/Cargo.toml:{}: versions stand in the root manifest only",
                    number + 1
                ));
            }
        }
        if !info.manifest.contains("[lints]\nworkspace = true") {
            findings.push(format!("{name}/Cargo.toml: lacks `[lints] workspace = true`"));
        }
    }
}

fn sources(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    for path in files(root, "rs")? {
        let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        if shown.contains("/gen/") || shown.starts_with("examples/") {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {shown}"))?;
        let lines = text.lines().count();
        if lines > LONGEST_FILE {
            findings.push(format!(
                "{shown}: {lines} lines, at most {LONGEST_FILE}: one idea per file"
            ));
        }
        let stem = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        if stem == "mod" {
            findings.push(format!(
                "{shown}: name the file after the module instead of mod.rs"
            ));
        }
        if DRAWERS.contains(&stem.as_str()) && !shown.contains("catalogue/") {
            findings.push(format!("{shown}: {stem:?} does not say what is inside"));
        }
        let is_test = shown.contains("/tests/") || stem == "tests" || shown.starts_with("fuzz/");
        if !is_test && !text.trim_start_matches("#![no_main]\n").starts_with("//!") {
            findings.push(format!(
                "{shown}: begin with a `//!` header: what this is and what it is not"
            ));
        }
    }
    Ok(())
}

/// Every tag of the catalogue has a page.
fn error_pages(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    let mut tags = BTreeSet::new();
    for path in files(&root.join("crates/runtime/src/catalogue"), "rs")? {
        let text = fs::read_to_string(&path)?;
        for word in text.split('"') {
            let is_tag = word.starts_with("ERR_")
                && word
                    .bytes()
                    .all(|b| b.is_ascii_uppercase() || b == b'_' || b.is_ascii_digit());
            if is_tag {
                tags.insert(word.to_owned());
            }
        }
    }
    for tag in tags {
        if !root.join(format!("docs/errors/{tag}.md")).exists() {
            findings.push(format!(
                "docs/errors/{tag}.md is missing: say what happened and what to do"
            ));
        }
    }
    Ok(())
}

/// Relative links in Markdown.
fn links(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    for path in files(root, "md")? {
        let text = fs::read_to_string(&path)?;
        let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        for (number, line) in text.lines().enumerate() {
            for link in line.split("](").skip(1) {
                let target = link
                    .split(')')
                    .next()
                    .unwrap_or_default()
                    .split('#')
                    .next()
                    .unwrap_or_default();
                if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                let resolved = path.parent().unwrap_or(root).join(target);
                if !resolved.exists() {
                    findings.push(format!(
                        "{shown}:{}: the link to {target} leads nowhere",
                        number + 1
                    ));
                }
            }
        }
    }
    Ok(())
}

fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            if path.is_dir() {
                if !matches!(
                    name.as_str(),
                    "target" | ".git" | "node_modules" | "corpus" | "artifacts" | "coverage"
                ) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{folder_of, own_dependencies};

    #[test]
    fn manifests_are_read() {
        let manifest = "[dependencies]\noutrigger-daemon.workspace = true\noutrigger-components-all = { workspace = true }\n\n[dev-dependencies]\noutrigger-testkit.workspace = true\n";
        let uses: Vec<String> = own_dependencies(manifest).into_iter().collect();
        assert_eq!(uses, ["components/all", "crates/daemon"]);
        assert_eq!(folder_of("api-http"), "crates/api-http");
    }
}
