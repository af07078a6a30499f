//! Programs from Maven Central, fetched once into the [cache].

use crate::cache;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The file of an artifact (`group:name:version:type:classifier`), which Maven calls `name`.
///
/// # Errors
/// Why it cannot be had, in words.
pub(super) fn file(artifact: &str, name: &str) -> Result<PathBuf, String> {
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
/// Why it cannot be had, in words.
pub(super) fn unpacked(artifact: &str, packed: &str, name: &str) -> Result<PathBuf, String> {
    let kept = cache::folder().join(name);
    if !kept.is_dir() {
        let folder = fetch(artifact)?;
        let content = folder.path().join("content");
        std::fs::create_dir(&content).map_err(|error| error.to_string())?;
        let archive = folder.path().join(packed);
        run(Command::new("tar")
            .arg("-xzf")
            .arg(archive)
            .arg("-C")
            .arg(&content))?;
        keep(&content, &kept)?;
    }
    Ok(kept)
}

/// Into a folder of its own: a fetch that is interrupted leaves nothing that looks complete.
fn fetch(artifact: &str) -> Result<tempfile::TempDir, String> {
    let cache = cache::folder();
    std::fs::create_dir_all(&cache).map_err(|error| error.to_string())?;
    let folder = tempfile::tempdir_in(cache).map_err(|error| error.to_string())?;
    let copy = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy";
    run(Command::new("mvn")
        .args(["-q", "-B", copy])
        .arg(format!("-Dartifact={artifact}"))
        .arg(format!("-DoutputDirectory={}", folder.path().display())))?;
    Ok(folder)
}

/// Another test may have been quicker: then what it has serves as well.
fn keep(from: &Path, to: &Path) -> Result<(), String> {
    match std::fs::rename(from, to) {
        Err(error) if !to.exists() => Err(error.to_string()),
        _ => Ok(()),
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program} does not start: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        return Err(format!("{program} ended with {}: {said}", output.status));
    }
    Ok(())
}
