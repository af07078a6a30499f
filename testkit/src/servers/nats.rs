//! NATS with JetStream (`apt-get install nats-server`).
//!
//! A killed process loses nothing that JetStream has acknowledged: it writes before it answers, though it syncs now and then
//! only (`sync_interval`, every two minutes unless configured), which a lost machine would show.

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

pub struct Nats {
    life: Life,
    folder: TempDir,
    port: Port,
    monitor_port: Port,
}

/// Starts a server with further lines of its configuration. `None`, said loudly, if NATS is not installed.
///
/// # Panics
/// When an installed server does not start.
pub async fn start(configuration: &str) -> Option<Nats> {
    if !installed("nats-server", "nats-server") {
        return None;
    }
    let mut nats = Nats {
        life: Life::new("nats-server"),
        folder: tempfile::tempdir().expect("a temporary folder"),
        port: Port::take(),
        monitor_port: Port::take(),
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
        self.life.kill();
    }

    /// Starts the server again on the same ports and files.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        let mut command = Command::new("nats-server");
        command.arg("-c").arg(self.folder.path().join("nats.conf"));
        self.life.begin(&mut command);
        self.life.ready(PATIENCE, || self.is_healthy()).await;
    }

    async fn is_healthy(&self) -> io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.monitor_port.number())).await?;
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer.contains(r#""status":"ok""#) || answer.contains(r#""status": "ok""#))
    }
}
