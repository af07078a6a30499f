//! PostgreSQL (`apt-get install postgresql`). The server refuses to run as root: then it runs as the user `postgres`.

use super::life::Life;
use crate::port::Port;
use rustix::process::{Signal, kill_process};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where Debian has the programs, one folder for each version.
const PROGRAMS: &str = "/usr/lib/postgresql";

pub const USER: &str = "dapr";
pub const PASSWORD: &str = "secret";

pub struct Postgresql {
    life: Life,
    folder: TempDir,
    programs: PathBuf,
    port: Port,
    options: Vec<String>,
}

/// Starts a server with further options of its command line (`-c name=value`). `None`, said loudly, if PostgreSQL is not
/// installed.
///
/// # Panics
/// When an installed server does not start.
pub async fn start(options: &[&str]) -> Option<Postgresql> {
    let Some(programs) = programs() else {
        super::skipped("postgresql is not installed");
        return None;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let password = folder.path().join("password");
    std::fs::write(&password, PASSWORD).expect("a file in our folder");
    let mut server = Postgresql {
        // Every process of the server ends at once.
        life: Life::new("postgres").killed_by(|pid| kill_process(pid, Signal::QUIT)),
        folder,
        programs,
        port: Port::take(),
        options: options.iter().map(|&option| option.to_owned()).collect(),
    };
    server.give_away();
    let made = server
        .command("initdb")
        .arg("-D")
        .arg(server.data())
        .args([
            "-U",
            USER,
            "--auth=scram-sha-256",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ])
        .arg(format!("--pwfile={}", password.display()))
        .output()
        .expect("initdb runs");
    assert!(made.status.success(), "{}", said(&made));
    server.restart().await;
    Some(server)
}

impl Postgresql {
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Of the process that has all others of the server as children; `None` when it is not running.
    pub fn pid(&self) -> Option<u32> {
        self.life.pid()
    }

    /// Where the programs of the server's version are.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// For the database that is there from the beginning.
    pub fn connection_string(&self) -> String {
        format!(
            "host=127.0.0.1 port={} user={USER} password={PASSWORD} database=postgres",
            self.port.number()
        )
    }

    /// Runs statements as any other client would; answers rows as lines, columns with `|` between.
    ///
    /// # Panics
    /// When one fails.
    pub async fn sql(&self, statements: &str) -> String {
        let output = tokio::process::Command::new(self.programs.join("psql"))
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                "127.0.0.1",
                "-U",
                USER,
            ])
            .args([
                "-p",
                &self.port.number().to_string(),
                "-d",
                "postgres",
                "-c",
                statements,
            ])
            .env("PGPASSWORD", PASSWORD)
            .stdin(Stdio::null())
            .output()
            .await
            .expect("psql runs");
        assert!(output.status.success(), "{statements}: {}", said(&output));
        String::from_utf8(output.stdout)
            .expect("an answer in UTF-8")
            .trim_end()
            .to_owned()
    }

    /// Every process of the server ends at once: no farewell. What was committed is still there.
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
        let mut command = self.command("postgres");
        command
            .arg("-D")
            .arg(self.data())
            .args([
                "-p",
                &self.port.number().to_string(),
                "-c",
                "listen_addresses=127.0.0.1",
            ])
            .args([
                "-c",
                "unix_socket_directories=",
                "-c",
                "fsync=off",
                "-c",
                "full_page_writes=off",
            ])
            .args(&self.options);
        self.life.begin(&mut command);
        self.life.ready(PATIENCE, || self.is_ready()).await;
    }

    async fn is_ready(&self) -> io::Result<bool> {
        tokio::process::Command::new(self.programs.join("pg_isready"))
            .args(["-q", "-h", "127.0.0.1", "-p", &self.port.number().to_string()])
            .status()
            .await
            .map(|status| status.success())
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A file of ours that the server shall read, only it: certificates, keys.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).expect("a file in our folder");
        let only_owner = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, only_owner).expect("ours to change");
        self.give_away();
        path
    }

    /// With other options from the next [`Self::restart`] on.
    pub fn options(&mut self, options: &[&str]) {
        self.options = options.iter().map(|&option| option.to_owned()).collect();
    }

    /// Our files become those of the user that the server runs as.
    fn give_away(&self) {
        if is_root() {
            let given = Command::new("chown")
                .args(["-R", "postgres"])
                .arg(self.folder.path())
                .status();
            assert!(given.expect("chown runs").success(), "ours to give away");
        }
    }

    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        if is_root() {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
                .arg(program);
            command
        } else {
            Command::new(program)
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Of the newest version.
fn programs() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(PROGRAMS)
        .ok()?
        .filter_map(io::Result::ok)
        .map(|entry| entry.path().join("bin"))
        .filter(|folder| folder.join("postgres").is_file())
        .collect();
    folders.sort_by_key(|folder| version(folder));
    folders.pop()
}

fn version(folder: &Path) -> u32 {
    let name = folder.parent().and_then(Path::file_name).and_then(OsStr::to_str);
    name.and_then(|name| name.parse().ok()).unwrap_or(0)
}

fn said(output: &Output) -> String {
    format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
