//! NATS with JetStream (`apt-get install nats-server`).
//!
//! A killed process loses nothing that JetStream has acknowledged: it writes before it answers, though it syncs now and then
//! only (`sync_interval`, every two minutes unless configured), which a lost machine would show.

use crate::port::Port;
use std::io;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Nats {
    folder: TempDir,
    port: Port,
    monitor_port: Port,
    child: Option<Child>,
}

/// Starts a server with further lines of its configuration. `None`, said loudly, if NATS is not installed.
///
/// # Panics
/// When an installed server does not start.
pub async fn start(configuration: &str) -> Option<Nats> {
    let installed = Command::new("nats-server")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if installed.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        super::skipped("nats-server is not installed");
        return None;
    }
    let mut nats = Nats {
        folder: tempfile::tempdir().expect("a temporary folder"),
        port: Port::take(),
        monitor_port: Port::take(),
        child: None,
    };
    let text = format!(
        "host: 127.0.0.1\nport: {}\nhttp: 127.0.0.1:{}\n\
         jetstream {{ store_dir: {:?}, max_mem: 64M, max_file: 512M }}\n{configuration}\n",
        nats.port(),
        nats.monitor_port.number(),
        nats.folder.path().join("store")
    );
    std::fs::write(nats.folder.path().join("nats.conf"), text).expect("a configuration");
    nats.restart().await;
    Some(nats)
}

impl Nats {
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `nats://127.0.0.1:port`, as `natsURL` wants it.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port())
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
        let child = Command::new("nats-server")
            .arg("-c")
            .arg(self.folder.path().join("nats.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("nats-server starts"));
        let ready = async {
            while !self.is_healthy().await.unwrap_or(false) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready)
            .await
            .expect("nats-server is ready in time");
    }

    async fn is_healthy(&self) -> io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.monitor_port.number())).await?;
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer.contains(r#""status":"ok""#) || answer.contains(r#""status": "ok""#))
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}
