//! Zipkin itself (Maven Central; needs Java and Maven), keeping traces in memory.

use super::life::{Life, installed};
use crate::client::Client;
use crate::maven;
use crate::port::Port;
use std::process::Command;
use std::time::Duration;

const VERSION: &str = "3.6.1";
/// How long a Java server may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
const ANSWER: Duration = Duration::from_secs(10);

pub struct Zipkin {
    _life: Life,
    port: Port,
    client: Client,
}

/// Starts a server. `None`, said loudly, if Java is not installed or the program cannot be had.
///
/// # Panics
/// When a server that is there does not start.
pub async fn start() -> Option<Zipkin> {
    if !installed("java", "openjdk-17-jre-headless") {
        return None;
    }
    let name = format!("zipkin-server-{VERSION}-exec.jar");
    let program = match maven::file(&format!("io.zipkin:zipkin-server:{VERSION}:jar:exec"), &name) {
        Ok(program) => program,
        Err(why) => {
            super::skipped(&format!("Zipkin cannot be had: {why}"));
            return None;
        }
    };
    let port = Port::take();
    let mut life = Life::new("zipkin");
    life.begin(
        Command::new("java")
            .args(["-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-jar"])
            .arg(program)
            .arg(format!("--armeria.ports[0].port={}", port.number()))
            .args([
                "--armeria.ports[0].protocols[0]=http",
                "--armeria.ports[0].ip=127.0.0.1",
            ])
            .env("STORAGE_TYPE", "mem"),
    );
    let zipkin = Zipkin {
        _life: life,
        port,
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
