//! Java programs from Maven Central, fetched once into [`cache::folder`].

use crate::cache;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Group, artifact, version.
pub type Artifact<'a> = (&'a str, &'a str, &'a str);

const PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";

/// The folder `name` with the jars of these artifacts and of all they need at run time.
///
/// # Errors
/// Why they cannot be had, in words: Java or Maven is not installed, or Maven cannot fetch them.
pub fn jars(name: &str, artifacts: &[Artifact<'_>]) -> Result<PathBuf, String> {
    run(Command::new("java").arg("-version"))?;
    let kept = cache::folder().join(name);
    if !kept.is_dir() {
        let project = workplace()?;
        fs::write(project.path().join("pom.xml"), pom(artifacts)).map_err(|error| error.to_string())?;
        run(Command::new("mvn")
            .args(["-q", "-B", &format!("{PLUGIN}:copy-dependencies")])
            .args(["-DincludeScope=runtime", "-DoutputDirectory=lib"])
            .current_dir(project.path()))?;
        keep(&project.path().join("lib"), &kept)?;
    }
    Ok(kept)
}

/// The file of an artifact (`group:name:version:type:classifier`), which Maven calls `name`.
///
/// # Errors
/// As [`jars`].
pub fn file(artifact: &str, name: &str) -> Result<PathBuf, String> {
    let kept = cache::folder().join(name);
    if !kept.is_file() {
        let folder = fetch(artifact)?;
        keep(&folder.path().join(name), &kept)?;
    }
    Ok(kept)
}

/// The folder `name` with what is in an artifact that is a `tar.gz`, which Maven calls `packed`.
///
/// # Errors
/// As [`jars`].
pub fn unpacked(artifact: &str, packed: &str, name: &str) -> Result<PathBuf, String> {
    let kept = cache::folder().join(name);
    if !kept.is_dir() {
        let folder = fetch(artifact)?;
        let content = folder.path().join("content");
        fs::create_dir(&content).map_err(|error| error.to_string())?;
        run(Command::new("tar")
            .arg("-xzf")
            .arg(folder.path().join(packed))
            .arg("-C")
            .arg(&content))?;
        keep(&content, &kept)?;
    }
    Ok(kept)
}

fn fetch(artifact: &str) -> Result<TempDir, String> {
    let folder = workplace()?;
    run(Command::new("mvn")
        .args(["-q", "-B", &format!("{PLUGIN}:copy")])
        .arg(format!("-Dartifact={artifact}"))
        .arg(format!("-DoutputDirectory={}", folder.path().display())))?;
    Ok(folder)
}

/// A folder of one's own in the cache: a fetch that is interrupted leaves nothing that looks complete.
fn workplace() -> Result<TempDir, String> {
    let cache = cache::folder();
    let folder = fs::create_dir_all(&cache).and_then(|()| tempfile::tempdir_in(&cache));
    folder.map_err(|error| format!("{}: {error}", cache.display()))
}

/// Another test may have been quicker: then what it has serves as well.
fn keep(from: &Path, to: &Path) -> Result<(), String> {
    match fs::rename(from, to) {
        Err(error) if !to.exists() => Err(format!("{}: {error}", to.display())),
        _ => Ok(()),
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = match command.stdin(Stdio::null()).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!("{program} is not installed"));
        }
        output => output.map_err(|error| format!("{program} does not start: {error}"))?,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        return Err(format!("{program} ended with {}: {said}", output.status));
    }
    Ok(())
}

fn pom(artifacts: &[Artifact<'_>]) -> String {
    let dependencies: String = artifacts
        .iter()
        .map(|(group, artifact, version)| {
            format!(
                "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
                 <version>{version}</version></dependency>"
            )
        })
        .collect();
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>outrigger</groupId><artifactId>tests</artifactId><version>1</version>\
         <dependencies>{dependencies}</dependencies></project>"
    )
}
