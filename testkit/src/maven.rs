//! Java programs from Maven Central, fetched once into [`cache::folder`](crate::cache::folder).

use crate::cache;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Group, artifact, version.
pub type Artifact<'a> = (&'a str, &'a str, &'a str);

/// The folder `name` with the jars of these artifacts and of all they need at run time.
///
/// # Errors
/// Why they cannot be had: Java or Maven is not installed, or Maven cannot fetch them.
///
/// # Panics
/// When the cache takes no files.
pub fn jars(name: &str, artifacts: &[Artifact<'_>]) -> Result<PathBuf, String> {
    for program in ["java", "mvn"] {
        let found = Command::new("which").arg(program).stdout(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            return Err(format!("{program} is not installed"));
        }
    }
    let cache = cache::folder();
    let jars = cache.join(name);
    if jars.is_dir() {
        return Ok(jars);
    }
    fs::create_dir_all(&cache).expect("a folder for what is kept");
    let project = tempfile::tempdir_in(&cache).expect("a temporary folder");
    fs::write(project.path().join("pom.xml"), pom(artifacts)).expect("the folder takes files");
    let fetched = Command::new("mvn")
        .args([
            "-q",
            "-B",
            "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies",
        ])
        .args(["-DincludeScope=runtime", "-DoutputDirectory=lib"])
        .current_dir(project.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !fetched.is_ok_and(|status| status.success()) {
        return Err(format!("Maven cannot fetch {name}"));
    }
    // Another test may have been quicker: then its folder serves as well.
    if fs::rename(project.path().join("lib"), &jars).is_err() && !jars.is_dir() {
        panic!("{} cannot be made", jars.display());
    }
    Ok(jars)
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
