//! Mosquitto (`apt-get install mosquitto`), an MQTT broker. It writes what it holds to disk when it ends in peace
//! ([`Mosquitto::stop`]), and not before: killed, it loses everything, which is nobody else's fault.

use super::life::{Life, installed};
use crate::port::Port;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;

/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Mosquitto {
    life: Life,
    folder: TempDir,
    port: Port,
}

/// Starts a server that lets anybody in on [`Mosquitto::host`], with further lines for its configuration (listeners of
/// their own, for example). `None`, said loudly, if Mosquitto is not installed.
///
/// # Panics
/// When an installed server does not start.
pub async fn start(lines: &[&str]) -> Option<Mosquitto> {
    if !installed("mosquitto", "mosquitto") {
        return None;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let port = Port::take();
    let mut config = format!(
        "per_listener_settings true\n\
         user root\n\
         persistence true\n\
         persistence_location {}/\n\
         autosave_interval 0\n\
         max_queued_messages 0\n\
         max_inflight_messages 1000\n\
         listener {} 127.0.0.1\n\
         allow_anonymous true\n",
        folder.path().display(),
        port.number()
    );
    for line in lines {
        config += line;
        config += "\n";
    }
    std::fs::write(folder.path().join("mosquitto.conf"), config).expect("a file");
    let mut server = Mosquitto {
        life: Life::new("mosquitto"),
        folder,
        port,
    };
    server.restart().await;
    Some(server)
}

impl Mosquitto {
    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// SIGKILL: no farewell, and nothing is written.
    ///
    /// # Panics
    /// When the server is not running.
    pub fn kill(&mut self) {
        self.life.kill();
    }

    /// SIGTERM: what it holds is written.
    ///
    /// # Panics
    /// When the server is not running, or does not end.
    pub async fn stop(&mut self) {
        self.life.stop(PATIENCE).await;
    }

    /// Starts the server again on the same port and files.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(self.folder.path().join("mosquitto.conf"));
        self.life.begin(&mut command);
        let ready = async || Ok(TcpStream::connect(self.host()).await.is_ok());
        self.life.ready(PATIENCE, ready).await;
    }
}
