//! Memcached (`apt-get install memcached`).

use crate::port::Port;
use std::io;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Memcached {
    port: Port,
    options: Vec<String>,
    child: Option<Child>,
}

/// Starts a server. `None`, said loudly, if Memcached is not installed.
///
/// # Panics
/// When an installed server does not start.
pub async fn start() -> Option<Memcached> {
    start_with(&[]).await
}

/// The same with further options of its command line.
///
/// # Panics
/// When an installed server does not start.
pub async fn start_with(options: &[&str]) -> Option<Memcached> {
    let installed = Command::new("memcached")
        .arg("-V")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if installed.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        super::skipped("memcached is not installed");
        return None;
    }
    let mut memcached = Memcached {
        port: Port::take(),
        options: options.iter().map(|&option| option.to_owned()).collect(),
        child: None,
    };
    memcached.restart().await;
    Some(memcached)
}

impl Memcached {
    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// SIGKILL; it forgets everything.
    ///
    /// # Panics
    /// When the server is not running.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().expect("ours to kill");
        child.wait().expect("ours to wait for");
    }

    /// Starts the server again on the same port.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        // Only where it is started by root does it want to be somebody else.
        let child = Command::new("memcached")
            .args(["-u", "root", "-l", "127.0.0.1", "-U", "0", "-m", "64", "-p"])
            .arg(self.port.number().to_string())
            .args(&self.options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("memcached starts");
        self.child = Some(child);
        let ready = async {
            while self.say("version").await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready)
            .await
            .expect("memcached is ready in time");
    }

    /// Speaks to the server as any other client would; answers its text with spaces for line breaks.
    ///
    /// # Panics
    /// When it cannot be talked to.
    pub async fn raw(&self, command: &str) -> String {
        self.say(command).await.expect("the server can be talked to")
    }

    async fn say(&self, command: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port.number())).await?;
        stream
            .write_all(format!("{command}\r\nquit\r\n").as_bytes())
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer.trim_end().replace("\r\n", " "))
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}
