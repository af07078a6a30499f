//! etcd (`apt-get install etcd-server`), a cluster of one. Leases of a second are possible: its heartbeat is ten times as
//! fast as usual. It does not sync: a killed process loses nothing, only a lost machine would.

use super::life::{Life, installed};
use crate::port::Port;
use std::io;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Etcd {
    life: Life,
    folder: TempDir,
    port: Port,
    peer_port: Port,
    /// Plain HTTP, whatever clients speak.
    health_port: Port,
    /// Of clients: `http` or `https`.
    scheme: &'static str,
    options: Vec<String>,
}

/// Starts a server with further options of its command line. `None`, said loudly, if etcd is not installed. Clients speak
/// TLS if `--cert-file` is among the options.
///
/// # Panics
/// When an installed server does not start.
pub async fn start(options: &[&str]) -> Option<Etcd> {
    if !installed("etcd", "etcd-server") {
        return None;
    }
    let mut etcd = Etcd {
        life: Life::new("etcd"),
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
        self.life.kill();
    }

    /// Starts the server again on the same ports and files.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        let client = format!("{}://{}", self.scheme, self.endpoint());
        let peer = format!("http://127.0.0.1:{}", self.peer_port.number());
        let health = format!("http://127.0.0.1:{}", self.health_port.number());
        let mut command = Command::new("etcd");
        command
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
            .args(&self.options);
        self.life.begin(&mut command);
        self.life.ready(PATIENCE, || self.is_healthy()).await;
    }

    async fn is_healthy(&self) -> io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.health_port.number())).await?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer.contains(r#""health":"true""#))
    }
}
