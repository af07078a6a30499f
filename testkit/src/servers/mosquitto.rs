//! Mosquitto (`apt-get install mosquitto`), an MQTT broker. It writes what it holds to disk when it ends in peace
//! ([`Mosquitto::stop`]), and not before: killed, it loses everything, which is nobody else's fault.

use rustix::process::{Pid, Signal, kill_process};
use std::io;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;

/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Mosquitto {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

/// Starts a server that lets anybody in on [`Mosquitto::host`], with further lines for its configuration (listeners of
/// their own, for example). `None`, said loudly, if Mosquitto is not installed.
///
/// # Panics
/// When an installed server does not start.
pub async fn start(lines: &[&str]) -> Option<Mosquitto> {
    let installed = Command::new("mosquitto")
        .arg("-h")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if installed.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        super::skipped("mosquitto is not installed");
        return None;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let port = super::free_port();
    let mut config = format!(
        "per_listener_settings true\n\
         user root\n\
         persistence true\n\
         persistence_location {}/\n\
         autosave_interval 0\n\
         max_queued_messages 0\n\
         max_inflight_messages 1000\n\
         listener {port} 127.0.0.1\n\
         allow_anonymous true\n",
        folder.path().display()
    );
    for line in lines {
        config += line;
        config += "\n";
    }
    std::fs::write(folder.path().join("mosquitto.conf"), config).expect("a file");
    let mut server = Mosquitto {
        folder,
        port,
        child: None,
    };
    server.restart().await;
    Some(server)
}

impl Mosquitto {
    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// SIGKILL: no farewell, and nothing is written.
    ///
    /// # Panics
    /// When the server is not running.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().expect("ours to kill");
        child.wait().expect("ours to wait for");
    }

    /// SIGTERM: what it holds is written.
    ///
    /// # Panics
    /// When the server is not running, or does not end.
    pub async fn stop(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        kill_process(Pid::from_child(&child), Signal::TERM).expect("ours to end");
        let ended = async {
            while child.try_wait().expect("ours to wait for").is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ended)
            .await
            .expect("mosquitto ends in time");
    }

    /// Starts the server again on the same port and files.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let child = Command::new("mosquitto")
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("mosquitto starts"));
        let ready = async {
            while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready)
            .await
            .expect("mosquitto is ready in time");
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}
