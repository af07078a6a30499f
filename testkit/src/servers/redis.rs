//! Redis (`apt-get install redis-server`). Writes are on disk before they are answered, so that a killed server
//! loses nothing and tests can tell our losses from its.

use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Redis {
    folder: TempDir,
    port: u16,
    options: Vec<String>,
    child: Option<Child>,
}

/// Starts a server with further options of its command line (`--requirepass`, …). `None`, said loudly, if Redis is
/// not installed.
///
/// # Panics
/// When an installed server does not start.
pub async fn start(options: &[&str]) -> Option<Redis> {
    let installed = Command::new("redis-server")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if installed.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        super::skipped("redis-server is not installed");
        return None;
    }
    let mut redis = Redis {
        folder: tempfile::tempdir().expect("a temporary folder"),
        port: super::free_port(),
        options: options.iter().map(|&option| option.to_owned()).collect(),
        child: None,
    };
    redis.restart().await;
    Some(redis)
}

impl Redis {
    /// `127.0.0.1:port`, as `redisHost` wants it.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// SIGKILL: no farewell, no flush.
    ///
    /// # Panics
    /// When the server is not running.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().expect("ours to kill");
        child.wait().expect("ours to wait for");
    }

    /// Starts the server again on the same port and files.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        self.child = Some(spawn(self.folder.path(), self.port, &self.options));
        tokio::time::timeout(PATIENCE, self.ready())
            .await
            .expect("redis-server is ready in time");
    }

    async fn ready(&self) {
        while !self.answers().await.unwrap_or(false) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Any answer but "loading": with a password, the answer is that one is needed.
    async fn answers(&self) -> io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; 64];
        let length = stream.read(&mut answer).await?;
        Ok(length > 0 && !answer.starts_with(b"-LOADING"))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

fn spawn(folder: &Path, port: u16, options: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
        .arg(folder)
        .args(options)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server starts")
}
