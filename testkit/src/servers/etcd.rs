//! etcd (`apt-get install etcd-server`), a cluster of one. Leases of a second are possible: its heartbeat is ten times as
//! fast as usual. It does not sync: a killed process loses nothing, only a lost machine would.

use crate::port::Port;
use std::io;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Etcd {
    folder: TempDir,
    port: Port,
    peer_port: Port,
    /// Plain HTTP, whatever clients speak.
    health_port: Port,
    /// Of clients: `http` or `https`.
    scheme: &'static str,
    options: Vec<String>,
    child: Option<Child>,
}

/// Starts a server with further options of its command line. `None`, said loudly, if etcd is not installed. Clients speak
/// TLS if `--cert-file` is among the options.
///
/// # Panics
/// When an installed server does not start.
pub async fn start(options: &[&str]) -> Option<Etcd> {
    let installed = Command::new("etcd")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if installed.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        super::skipped("etcd is not installed");
        return None;
    }
    let mut etcd = Etcd {
        folder: tempfile::tempdir().expect("a temporary folder"),
        port: Port::take(),
        peer_port: Port::take(),
        health_port: Port::take(),
        scheme: if options.contains(&"--cert-file") {
            "https"
        } else {
            "http"
        },
        options: options.iter().map(|&option| option.to_owned()).collect(),
        child: None,
    };
    etcd.restart().await;
    Some(etcd)
}

impl Etcd {
    /// `127.0.0.1:port`, as `endpoints` wants it.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// SIGKILL: no farewell.
    ///
    /// # Panics
    /// When the server is not running.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().expect("ours to kill");
        child.wait().expect("ours to wait for");
    }

    /// Starts the server again on the same ports and files.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let client = format!("{}://{}", self.scheme, self.endpoint());
        let peer = format!("http://127.0.0.1:{}", self.peer_port.number());
        let health = format!("http://127.0.0.1:{}", self.health_port.number());
        let child = Command::new("etcd")
            .args(["--name", "n1", "--logger", "zap", "--log-level", "error"])
            .args([
                "--unsafe-no-fsync",
                "--heartbeat-interval",
                "10",
                "--election-timeout",
                "100",
            ])
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args([
                "--initial-cluster",
                &format!("n1={peer}"),
                "--listen-metrics-urls",
                &health,
            ])
            .arg("--data-dir")
            .arg(self.folder.path())
            .args(&self.options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("etcd starts"));
        let ready = async {
            while !self.is_healthy().await.unwrap_or(false) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready)
            .await
            .expect("etcd is ready in time");
    }

    async fn is_healthy(&self) -> io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.health_port.number())).await?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer.contains(r#""health":"true""#))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}
