//! Memcached (`apt-get install memcached`).

use super::life::{Life, installed};
use crate::port::Port;
use std::io;
use std::process::Command;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Memcached {
    life: Life,
    port: Port,
    options: Vec<String>,
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
    if !installed("memcached", "memcached") {
        return None;
    }
    let mut memcached = Memcached {
        life: Life::new("memcached"),
        port: Port::take(),
        options: options.iter().map(|&option| option.to_owned()).collect(),
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
        self.life.kill();
    }

    /// Starts the server again on the same port.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        // Only where it is started by root does it want to be somebody else.
        self.life.begin(
            Command::new("memcached")
                .args(["-u", "root", "-l", "127.0.0.1", "-U", "0", "-m", "64", "-p"])
                .arg(self.port.number().to_string())
                .args(&self.options),
        );
        let answers = async || self.say("version").await.map(|_| true);
        self.life.ready(PATIENCE, answers).await;
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
