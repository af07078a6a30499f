//! MariaDB (`apt-get install mariadb-server`).

use super::life::{Life, installed};
use crate::port::Port;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;

/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

pub const USER: &str = "dapr";
pub const PASSWORD: &str = "secret";

pub struct Mariadb {
    life: Life,
    folder: TempDir,
    port: Port,
    options: Vec<String>,
}

/// Starts a server with further options of its command line. `None`, said loudly, if MariaDB is not installed.
///
/// # Panics
/// When an installed server does not start.
pub async fn start(options: &[&str]) -> Option<Mariadb> {
    if !installed("mariadbd", "mariadb-server") {
        return None;
    }
    let mut server = Mariadb {
        life: Life::new("mariadbd"),
        folder: tempfile::tempdir().expect("a temporary folder"),
        port: Port::take(),
        options: options.iter().map(|&option| option.to_owned()).collect(),
    };
    let made = Command::new("mariadb-install-db")
        .args([
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ])
        .arg(format!("--datadir={}", server.path("data").display()))
        .args(server.account())
        .env("TMPDIR", server.folder.path())
        .output()
        .expect("mariadb-install-db runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let accounts = format!(
        "CREATE USER IF NOT EXISTS '{USER}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\nGRANT ALL ON *.* TO '{USER}'@'127.0.0.1';\n"
    );
    std::fs::write(server.path("init.sql"), accounts).expect("a file in our folder");
    server.restart().await;
    Some(server)
}

impl Mariadb {
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `user:password@tcp(127.0.0.1:port)/`.
    pub fn dsn(&self) -> String {
        format!("{USER}:{PASSWORD}@tcp(127.0.0.1:{})/", self.port.number())
    }

    /// Runs statements as any other client would; answers rows as lines, columns with tabs between.
    ///
    /// # Panics
    /// When one fails.
    pub async fn sql(&self, statements: &str) -> String {
        let output = tokio::process::Command::new("mariadb")
            .args(["--no-defaults", "-N", "-B", "-h", "127.0.0.1", "-u", USER])
            .args(["-P", &self.port.number().to_string(), "-e", statements])
            .env("MYSQL_PWD", PASSWORD)
            .stdin(Stdio::null())
            .output()
            .await
            .expect("mariadb runs");
        assert!(
            output.status.success(),
            "{statements}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout)
            .expect("an answer in UTF-8")
            .trim_end()
            .to_owned()
    }

    /// SIGKILL: no farewell, no flush.
    ///
    /// # Panics
    /// When the server is not running.
    pub fn kill(&mut self) {
        self.life.kill();
    }

    /// Starts the server again on the same port and files.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        let file = |option: &str, name: &str| format!("--{option}={}", self.path(name).display());
        let mut command = Command::new("mariadbd");
        command
            .args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve"])
            .arg(format!("--port={}", self.port.number()))
            .arg(file("datadir", "data"))
            .arg(file("socket", "s.sock"))
            .arg(file("pid-file", "m.pid"))
            .arg(file("init-file", "init.sql"))
            .args(["--innodb-buffer-pool-size=32M", "--performance-schema=OFF"])
            .args(self.account())
            .args(&self.options)
            // Servers that share one are in each other's way.
            .env("TMPDIR", self.folder.path());
        self.life.begin(&mut command);
        self.life.ready(PATIENCE, || self.greets()).await;
    }

    /// A file of ours that the server may read.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("a file in our folder");
        path
    }

    /// With other options from the next [`Self::restart`] on.
    pub fn options(&mut self, options: &[&str]) {
        self.options = options.iter().map(|&option| option.to_owned()).collect();
    }

    /// The server speaks first.
    async fn greets(&self) -> io::Result<bool> {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port.number())).await?;
        let mut greeting = [0; 5];
        stream.read_exact(&mut greeting).await?;
        Ok(greeting[4] == 10)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As root, the server wants to be told that this is meant.
    fn account(&self) -> Option<&'static str> {
        rustix::process::geteuid().is_root().then_some("--user=root")
    }
}
