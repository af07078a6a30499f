//! RabbitMQ (`apt-get install rabbitmq-server`). What it has confirmed of durable queues and persistent messages is on disk,
//! so that a killed server loses nothing and tests can tell our losses from its.
//!
//! The server is a script with Erlang's machine as a child, and needs Erlang's name service (`epmd`). Both are ours: a
//! process group and a child of its own, ended with the value.

use super::life::Life;
use crate::maven;
use crate::port::Port;
use rustix::process::{Signal, kill_process_group};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long the server may take to start: it is slow, and slower on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// Ports on which it is tried to be started.
const ATTEMPTS: u32 = 3;
const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";
const PERF_TEST: &str = "2.22.1";
const ERLANG: &str = "-kernel inet_dist_use_interface {127,0,0,1}";

pub struct RabbitMq {
    server: Life,
    /// Erlang's name service.
    _names: Life,
    folder: TempDir,
    port: Port,
    names_port: Port,
    distribution_port: Port,
}

/// The folder with the jars of PerfTest, RabbitMQ's own load generator.
///
/// # Errors
/// Why they cannot be had.
pub fn perf_test() -> Result<PathBuf, String> {
    let artifact = ("com.rabbitmq", "perf-test", PERF_TEST);
    maven::jars(&format!("rabbitmq-perf-test-{PERF_TEST}"), &[artifact])
}

/// Starts a server with further lines for its configuration (`listeners.ssl.1 = …`). `None`, said loudly, if RabbitMQ is
/// not installed.
///
/// # Panics
/// When an installed server does not start.
pub async fn start(lines: &[&str]) -> Option<RabbitMq> {
    if !Path::new(PROGRAMS).join("rabbitmq-server").exists() {
        super::skipped("rabbitmq-server is not installed");
        return None;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (port, names_port) = (Port::take(), Port::take());
    let mut config = format!(
        "listeners.tcp.1 = 127.0.0.1:{}\n\
         default_user = guest\n\
         default_pass = guest\n\
         log.console = true\n\
         log.console.level = warning\n\
         log.file = false\n\
         disk_free_limit.absolute = 50MB\n\
         vm_memory_high_watermark.absolute = 512MB\n",
        port.number()
    );
    for line in lines {
        config += line;
        config += "\n";
    }
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
    write("rabbitmq.conf", &config);
    write("enabled_plugins", "[].");
    let mut names = Life::new("epmd");
    names.begin(Command::new("epmd").args([
        "-address",
        "127.0.0.1",
        "-port",
        &names_port.number().to_string(),
    ]));
    let mut server = RabbitMq {
        // The script and Erlang's machine.
        server: Life::new("rabbitmq-server")
            .killed_by(|pid| kill_process_group(pid, Signal::KILL))
            .logs_to(folder.path().join("output")),
        _names: names,
        folder,
        port,
        names_port,
        distribution_port: Port::take(),
    };
    server.restart().await;
    Some(server)
}

impl RabbitMq {
    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// As `connectionString` wants it, for the user that may do everything.
    pub fn uri(&self) -> String {
        format!("amqp://guest:guest@{}", self.host())
    }

    /// Of the script that has Erlang's machine as a child; `None` when it is not running.
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// SIGKILL: no farewell, no flush.
    ///
    /// # Panics
    /// When the server is not running.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts the server again on the same port and files.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        for attempt in 1.. {
            let mut command = self.command("rabbitmq-server");
            self.server.begin(command.process_group(0));
            match self.server.started(PATIENCE, || self.answers()).await {
                Ok(()) => return,
                // It wants this port on all interfaces, and somebody has it on another one than ours.
                Err(why) if attempt < ATTEMPTS && why.contains("dist_port_already_used") => {
                    self.server.kill();
                    self.distribution_port = Port::take();
                }
                Err(why) => panic!("{why}"),
            }
        }
    }

    /// Runs `rabbitmqctl` with these arguments; answers what it prints. Takes seconds.
    ///
    /// # Panics
    /// When it fails.
    pub fn control(&self, arguments: &[&str]) -> String {
        let output = self
            .command("rabbitmqctl")
            .arg("--quiet")
            .args(arguments)
            .output()
            .expect("rabbitmqctl runs");
        assert!(
            output.status.success(),
            "rabbitmqctl {arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What it has printed, in all its lives.
    pub fn output(&self) -> String {
        self.server.output()
    }

    /// The wrapper in `/usr/sbin` would change the user.
    fn command(&self, program: &str) -> Command {
        let folder = self.folder.path();
        let mut command = Command::new(Path::new(PROGRAMS).join(program));
        command
            .env("HOME", folder)
            .env(
                "RABBITMQ_NODENAME",
                format!("test{}@localhost", self.port.number()),
            )
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("enabled_plugins"))
            .env("ERL_CRASH_DUMP", folder.join("crash"))
            .env("RABBITMQ_DIST_PORT", self.distribution_port.number().to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.names_port.number().to_string())
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                format!("{ERLANG} +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"),
            )
            .env("RABBITMQ_CTL_ERL_ARGS", ERLANG);
        command
    }

    /// Whether it speaks AMQP: the first byte is that of a frame with a method.
    async fn answers(&self) -> io::Result<bool> {
        let mut stream = TcpStream::connect(self.host()).await?;
        stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        let mut answer = [0; 1];
        stream.read_exact(&mut answer).await?;
        Ok(answer == [1])
    }
}
