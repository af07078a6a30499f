//! Redis (`apt-get install redis-server`). Writes are on disk before they are answered, so that a killed server
//! loses nothing and tests can tell our losses from its.

use super::life::{Life, installed};
use crate::pki::Pki;
use crate::port::Port;
use crate::until::until;
use rustix::process::Signal;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Redis {
    life: Life,
    folder: TempDir,
    /// Certificates and the like.
    files: Option<TempDir>,
    port: Port,
    /// Beside the plain one.
    tls_port: Option<Port>,
    options: Vec<String>,
}

/// Servers that share the keys among them.
pub struct Cluster {
    pub nodes: Vec<Redis>,
    /// Where they talk to each other.
    buses: Vec<Port>,
}

/// A master with one replica, watched by a Sentinel that replaces a master after half a second of silence.
pub struct Watched {
    pub master: Redis,
    pub replica: Redis,
    pub sentinel: Redis,
}

/// Starts a server with further options of its command line (`--requirepass`, …). `None`, said loudly, if Redis is
/// not installed.
///
/// # Panics
/// When an installed server does not start.
pub async fn start(options: &[&str]) -> Option<Redis> {
    if !installed("redis-server", "redis-server") {
        return None;
    }
    let mut redis = Redis {
        life: Life::new("redis-server"),
        folder: tempfile::tempdir().expect("a temporary folder"),
        files: None,
        port: Port::take(),
        tls_port: None,
        options: options.iter().map(|&option| option.to_owned()).collect(),
    };
    redis.restart().await;
    Some(redis)
}

/// The same with a second port for TLS, where clients must show a certificate of the same authority if `clients` says so.
///
/// # Panics
/// When an installed server does not start.
pub async fn start_tls(pki: &Pki, clients: bool) -> Option<Redis> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a writable folder");
        path.to_string_lossy().into_owned()
    };
    let port = Port::take();
    let (root, certificate, key) = (
        file("root.pem", &pki.root),
        file("certificate.pem", &pki.certificate),
        file("key.pem", &pki.key),
    );
    let options = [
        ["--tls-port", &port.number().to_string()],
        ["--tls-ca-cert-file", &root],
        ["--tls-cert-file", &certificate],
        ["--tls-key-file", &key],
        ["--tls-auth-clients", if clients { "yes" } else { "no" }],
    ];
    let mut redis = start(&options.concat()).await?;
    redis.tls_port = Some(port);
    redis.files = Some(folder);
    Some(redis)
}

/// Starts a cluster of so many masters with equal shares of the slots.
///
/// # Panics
/// When an installed server does not start, or the cluster does not come up.
pub async fn cluster(masters: u16) -> Option<Cluster> {
    let (mut nodes, mut buses) = (Vec::new(), Vec::new());
    for _ in 0..masters {
        let (node, bus) = cluster_node().await?;
        nodes.push(node);
        buses.push(bus);
    }
    let share = 16384 / masters;
    for (index, node) in (0..).zip(&nodes) {
        let last = if index + 1 == masters {
            16383
        } else {
            (index + 1) * share - 1
        };
        let first = index * share;
        assert_eq!(
            node.raw(&format!("CLUSTER ADDSLOTSRANGE {first} {last}")).await,
            "+OK"
        );
        for (other, bus) in nodes.iter().zip(&buses) {
            let meet = format!("CLUSTER MEET 127.0.0.1 {} {}", other.port.number(), bus.number());
            assert_eq!(node.raw(&meet).await, "+OK");
        }
    }
    let all = format!("cluster_known_nodes:{masters}");
    for node in &nodes {
        node.until("CLUSTER INFO", |info| {
            info.contains("cluster_state:ok") && info.contains(&all)
        })
        .await;
    }
    Some(Cluster { nodes, buses })
}

impl Cluster {
    /// Starts a node that follows the last master, and takes its place when it is gone. It becomes the last of the nodes.
    ///
    /// # Panics
    /// When it does not start, or does not come up.
    pub async fn add_replica(&mut self) {
        let (node, bus) = cluster_node().await.expect("the others have started");
        let master = self.nodes.last().expect("a cluster has nodes");
        let meet = format!("CLUSTER MEET 127.0.0.1 {} {}", node.port.number(), bus.number());
        assert_eq!(master.raw(&meet).await, "+OK");
        let all = format!("cluster_known_nodes:{}", self.nodes.len() + 1);
        for one in self.nodes.iter().chain([&node]) {
            one.until("CLUSTER INFO", |info| {
                info.contains("cluster_state:ok") && info.contains(&all)
            })
            .await;
        }
        let id = master.raw("CLUSTER MYID").await;
        let id = id.split(' ').nth(1).expect("length and text");
        assert_eq!(node.raw(&format!("CLUSTER REPLICATE {id}")).await, "+OK");
        node.until("INFO replication", |info| info.contains("master_link_status:up"))
            .await;
        // All must know, for the day on which they elect it.
        for one in &self.nodes {
            one.until("CLUSTER NODES", |nodes| nodes.contains("slave")).await;
        }
        self.nodes.push(node);
        self.buses.push(bus);
    }
}

/// And the port where it talks to the others.
async fn cluster_node() -> Option<(Redis, Port)> {
    let bus = Port::take();
    let options = [
        "--cluster-enabled",
        "yes",
        "--cluster-node-timeout",
        "2000",
        "--repl-diskless-sync-delay",
        "0",
        "--cluster-port",
    ];
    let node = start(&[&options[..], &[&bus.number().to_string()]].concat()).await?;
    Some((node, bus))
}

/// Starts a master, its replica, and a Sentinel that calls it `name`.
///
/// # Panics
/// When an installed server does not start, or the replica does not come up.
pub async fn watched(name: &str) -> Option<Watched> {
    let master = start(&[]).await?;
    let port = master.port.number().to_string();
    let replica = start(&[
        "--replicaof",
        "127.0.0.1",
        &port,
        "--repl-diskless-sync-delay",
        "0",
    ])
    .await?;
    master
        .until("INFO replication", |info| info.contains("state=online"))
        .await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = format!(
        "sentinel monitor {name} 127.0.0.1 {port} 1\nsentinel down-after-milliseconds {name} 500\n\
         sentinel failover-timeout {name} 2000\n"
    );
    let file = folder.path().join("sentinel.conf");
    std::fs::write(&file, settings).expect("a writable folder");
    let mut sentinel = Redis {
        life: Life::new("redis-server"),
        folder,
        files: None,
        port: Port::take(),
        tls_port: None,
        options: vec![file.to_string_lossy().into_owned(), "--sentinel".to_owned()],
    };
    sentinel.restart().await;
    sentinel
        .until(&format!("SENTINEL REPLICAS {name}"), |replicas| {
            replicas.contains("127.0.0.1")
        })
        .await;
    Some(Watched {
        master,
        replica,
        sentinel,
    })
}

impl Redis {
    /// `127.0.0.1:port`, as `redisHost` wants it.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// The same of the port that speaks TLS, by a name that is in the certificate.
    ///
    /// # Panics
    /// When the server was started without.
    pub fn tls_host(&self) -> String {
        let port = self.tls_port.as_ref().expect("started with TLS");
        format!("localhost:{}", port.number())
    }

    /// Speaks to the server as any other client would; answers its text. Words are separated by spaces.
    ///
    /// # Panics
    /// When it cannot be talked to.
    pub async fn raw(&self, command: &str) -> String {
        self.say(command).await.expect("the server can be talked to")
    }

    /// Asks again until the answer is right.
    ///
    /// # Panics
    /// When it does not become right in time.
    pub async fn until(&self, command: &str, right: impl Fn(&str) -> bool) {
        until(command, PATIENCE * 2, async || right(&self.raw(command).await)).await;
    }

    async fn say(&self, command: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port.number())).await?;
        for words in [command.split(' ').collect(), vec!["QUIT"]] {
            let mut request = format!("*{}\r\n", words.len());
            for word in words {
                request += &format!("${}\r\n{word}\r\n", word.len());
            }
            stream.write_all(request.as_bytes()).await?;
        }
        // Sentinels know no QUIT.
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let answer = answer.trim_end().trim_end_matches("+OK").trim_end();
        Ok(answer.replace("\r\n", " "))
    }

    /// SIGSTOP and SIGCONT: the server is there, and silent meanwhile.
    ///
    /// # Panics
    /// When the server is not running.
    pub fn pause(&self, paused: bool) {
        self.life.signal(if paused { Signal::STOP } else { Signal::CONT });
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
        self.life.begin(&mut command(
            self.folder.path(),
            self.port.number(),
            &self.options,
        ));
        self.life.ready(PATIENCE, || self.answers()).await;
    }

    /// Any answer but "loading": with a password, the answer is that one is needed.
    async fn answers(&self) -> io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port.number())).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; 64];
        let length = stream.read(&mut answer).await?;
        Ok(length > 0 && !answer.starts_with(b"-LOADING"))
    }
}

fn command(folder: &Path, port: u16, options: &[String]) -> Command {
    let mut command = Command::new("redis-server");
    // A configuration file stands before everything else.
    let (file, options) = match options.split_first() {
        Some((file, rest)) if !file.starts_with("--") => (Some(file), rest),
        _ => (None, options),
    };
    command.args(file);
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
        .arg(folder);
    if file.is_none() {
        command.args(["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
    }
    command.args(options);
    command
}
