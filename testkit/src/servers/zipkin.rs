//! Zipkin itself (Maven Central; needs Java and Maven), keeping traces in memory.

use crate::cache;
use crate::client::Client;
use crate::port::Port;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const VERSION: &str = "3.6.1";
/// How long a Java server may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
const ANSWER: Duration = Duration::from_secs(10);

pub struct Zipkin {
    port: Port,
    child: Child,
    client: Client,
}

/// Starts a server. `None`, said loudly, if Java is not installed or the program cannot be had.
///
/// # Panics
/// When a server that is there does not start.
pub async fn start() -> Option<Zipkin> {
    let program = match program() {
        Ok(program) => program,
        Err(why) => {
            super::skipped(&format!("Zipkin cannot be had: {why}"));
            return None;
        }
    };
    let port = Port::take();
    let child = Command::new("java")
        .args(["-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-jar"])
        .arg(program)
        .arg(format!("--armeria.ports[0].port={}", port.number()))
        .args([
            "--armeria.ports[0].protocols[0]=http",
            "--armeria.ports[0].ip=127.0.0.1",
        ])
        .env("STORAGE_TYPE", "mem")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let child = match child {
        Ok(child) => child,
        Err(error) => {
            super::skipped(&format!("Zipkin needs java, which does not start: {error}"));
            return None;
        }
    };
    let zipkin = Zipkin {
        port,
        child,
        client: Client::new(ANSWER),
    };
    zipkin.client.until(&zipkin.url("/health"), 200, PATIENCE).await;
    Some(zipkin)
}

impl Zipkin {
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The newest traces as Zipkin's API shows them: a JSON list of lists of spans.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn traces(&self, limit: usize) -> String {
        let answer = self
            .client
            .get(&self.url(&format!("/api/v2/traces?limit={limit}")))
            .await
            .expect("Zipkin answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port.number())
    }
}

impl Drop for Zipkin {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        self.child.wait().expect("ours to wait for");
    }
}

/// The program, fetched once into a cache outside the repository.
fn program() -> Result<PathBuf, String> {
    let cache = cache::folder();
    let name = format!("zipkin-server-{VERSION}-exec.jar");
    let program = cache.join(&name);
    if !program.is_file() {
        fetch(&cache, &name).map_err(|error| error.to_string())?;
    }
    Ok(program)
}

/// Into a folder of its own first: a fetch that is interrupted leaves nothing that looks complete.
fn fetch(cache: &Path, name: &str) -> io::Result<()> {
    std::fs::create_dir_all(cache)?;
    let folder = tempfile::tempdir_in(cache)?;
    let output = Command::new("mvn")
        .args([
            "-q",
            "-B",
            "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy",
        ])
        .arg(format!("-Dartifact=io.zipkin:zipkin-server:{VERSION}:jar:exec"))
        .arg(format!("-DoutputDirectory={}", folder.path().display()))
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        return Err(io::Error::other(format!(
            "mvn ended with {}: {said}",
            output.status
        )));
    }
    std::fs::rename(folder.path().join(name), cache.join(name))
}
