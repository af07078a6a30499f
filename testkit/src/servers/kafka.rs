//! Apache Kafka, one broker in KRaft mode (`apt-get install openjdk-17-jre-headless maven`; the jars come from Maven Central
//! once and are kept in `$HOME/.cache/outrigger-tests`).
//!
//! Every listener is on the loopback interface: plain, SASL (users `alice`/`alice-pw` for PLAIN, `bob`/`bob-pw` for SCRAM,
//! any unsigned token for OAUTHBEARER), TLS, and TLS with client certificates. Groups and brokers are quick to notice
//! what is gone. Topics are made when they are first named, with one partition; [`Kafka::create`] makes others. Three
//! brokers that replicate to each other are a [`cluster`].

pub mod cluster;

use super::life::Life;
use crate::maven::{self, Artifact};
use crate::port::Port;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const VERSION: &str = "4.3.1";
/// How long the server may take to start, on a busy machine and after a kill.
const PATIENCE: Duration = Duration::from_secs(90);
const CLUSTER: &str = "MkU3OEVBNTcwNTJENDM2Qg";
const JVM: [&str; 4] = [
    "-Xms64m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
];
const LOGGING: Artifact<'_> = ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.4");

pub struct Kafka {
    life: Life,
    folder: TempDir,
    jars: PathBuf,
    ports: Ports,
    /// PEM of the authority of the brokers and of [`Kafka::client`].
    pub authority: String,
    /// PEM of a client's certificate and key.
    pub client: (String, String),
}

struct Ports {
    plain: Port,
    control: Port,
    sasl: Port,
    tls: Port,
    mtls: Port,
}

/// The folder with the jars of Kafka's own tools, of the version of the broker.
///
/// # Errors
/// Why they cannot be had.
pub fn tools() -> Result<PathBuf, String> {
    let artifacts = [("org.apache.kafka", "kafka-tools", VERSION), LOGGING];
    maven::jars(&format!("kafka-tools-{VERSION}"), &artifacts)
}

/// Starts a broker. `None`, said loudly, if Java or the jars cannot be had.
///
/// # Panics
/// When a broker that can be had does not start.
pub async fn start() -> Option<Kafka> {
    start_on(None).await
}

/// The same with all that the broker keeps on this disk.
///
/// # Panics
/// When a broker that can be had does not start.
pub async fn start_on(disk: Option<&Path>) -> Option<Kafka> {
    let jars = jars()?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ports = Ports {
        plain: Port::take(),
        control: Port::take(),
        sasl: Port::take(),
        tls: Port::take(),
        mtls: Port::take(),
    };
    let (authority, client) = certificates(folder.path());
    let properties = properties(folder.path(), disk.unwrap_or(folder.path()), &ports);
    fs::write(folder.path().join("server.properties"), properties).expect("the folder takes files");
    let users = [
        "--add-scram",
        "SCRAM-SHA-256=[name=bob,password=bob-pw]",
        "--add-scram",
        "SCRAM-SHA-512=[name=bob,password=bob-pw]",
    ];
    format(&jars, folder.path(), &users);
    let mut kafka = Kafka {
        life: life(folder.path()),
        folder,
        jars,
        ports,
        authority,
        client,
    };
    kafka.restart().await;
    Some(kafka)
}

impl Kafka {
    /// `127.0.0.1:port`, without TLS or login.
    pub fn plain(&self) -> String {
        format!("127.0.0.1:{}", self.ports.plain.number())
    }

    /// `127.0.0.1:port`, without TLS, with a login.
    pub fn sasl(&self) -> String {
        format!("127.0.0.1:{}", self.ports.sasl.number())
    }

    /// `localhost:port`, with TLS.
    pub fn tls(&self) -> String {
        format!("localhost:{}", self.ports.tls.number())
    }

    /// `localhost:port`, with TLS and client certificates.
    pub fn mtls(&self) -> String {
        format!("localhost:{}", self.ports.mtls.number())
    }

    /// Of the broker's one process; `None` when it is not running.
    pub fn pid(&self) -> Option<u32> {
        self.life.pid()
    }

    /// SIGKILL: no farewell, no flush.
    ///
    /// # Panics
    /// When the broker is not running.
    pub fn kill(&mut self) {
        self.life.kill();
    }

    /// Starts the broker again on the same ports and files.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        begin(&mut self.life, &self.jars, self.folder.path());
        ready(&self.life, self.ports.plain.number()).await;
    }

    /// Makes a topic.
    ///
    /// # Panics
    /// When the broker does not.
    pub async fn create(&self, topic: &str, partitions: u8) {
        create(self.ports.plain.number(), topic, partitions, 1).await;
    }

    /// Runs `kafka-configs --alter` with these arguments. Takes seconds.
    ///
    /// # Panics
    /// When it fails.
    pub fn alter(&self, arguments: &[&str]) {
        let altered = java(&self.jars, self.folder.path())
            .args([
                "kafka.admin.ConfigCommand",
                "--bootstrap-server",
                &self.plain(),
                "--alter",
            ])
            .args(arguments)
            .status()
            .expect("java runs");
        assert!(altered.success(), "{arguments:?}: {altered}");
    }
}

/// Makes the storage of the broker whose `server.properties` are in the folder.
fn format(jars: &Path, folder: &Path, more: &[&str]) {
    let formatted = java(jars, folder)
        .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER])
        .args(["-c", "server.properties"])
        .args(more)
        .status()
        .expect("java runs");
    assert!(formatted.success(), "kafka's storage cannot be made: {formatted}");
}

fn life(folder: &Path) -> Life {
    Life::new("kafka").logs_to(folder.join("log"))
}

fn begin(life: &mut Life, jars: &Path, folder: &Path) {
    life.begin(java(jars, folder).args(["kafka.Kafka", "server.properties"]));
}

async fn ready(life: &Life, port: u16) {
    life.ready(PATIENCE, async || Ok(ask(port, 18, 0, &[]).await.is_some()))
        .await;
}

/// One request with client id `test`; what follows the correlation id of its answer.
async fn ask(port: u16, api: u8, version: u8, body: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let mut request = vec![0, api, 0, version, 0, 0, 0, 1, 0, 4];
    request.extend(b"test");
    request.extend(body);
    let length = u32::try_from(request.len()).ok()?;
    stream.write_all(&length.to_be_bytes()).await.ok()?;
    stream.write_all(&request).await.ok()?;
    let length = usize::try_from(stream.read_u32().await.ok()?).ok()?;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await.ok()?;
    Some(answer.split_off(4))
}

async fn create(port: u16, topic: &str, partitions: u8, replicas: u8) {
    // CreateTopics v2.
    let mut request = vec![0, 0, 0, 1];
    request.extend(text(topic));
    request.extend([0, 0, 0, partitions, 0, replicas, 0, 0, 0, 0, 0, 0, 0, 0]);
    request.extend([0, 0, 0x75, 0x30, 0]);
    let answer = ask(port, 19, 2, &request).await.expect("the broker answers");
    // Throttle time, number of topics, name, code.
    let code = answer
        .get(4 + 4 + 2 + topic.len()..)
        .and_then(|rest| rest.first_chunk());
    assert_eq!(code, Some(&[0, 0]), "topic {topic} cannot be made");
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short text");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

fn java(jars: &Path, folder: &Path) -> Command {
    let mut command = Command::new("java");
    command
        .args(JVM)
        .arg("-cp")
        .arg(format!("{}/*", jars.display()))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// The folder with the jars, from Maven Central if it is not there yet.
fn jars() -> Option<PathBuf> {
    let artifacts = [("org.apache.kafka", "kafka_2.13", VERSION), LOGGING];
    match maven::jars(&format!("kafka-{VERSION}"), &artifacts) {
        Ok(jars) => Some(jars),
        Err(why) => {
            super::skipped(&format!("there is no Kafka: {why}"));
            None
        }
    }
}

/// Writes what the broker shows and trusts; gives the authority and a client's certificate and key.
fn certificates(folder: &Path) -> (String, (String, String)) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names are fine");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority =
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
    let certificate = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("names are fine");
        let certificate = params.signed_by(&key, &authority).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    };
    let (broker, key) = certificate(&["localhost", "127.0.0.1"]);
    let write =
        |name: &str, text: String| fs::write(folder.join(name), text).expect("the folder takes files");
    write("keystore.pem", format!("{key}{broker}"));
    write("ca.pem", authority.pem());
    (authority.pem(), certificate(&["client"]))
}

fn properties(folder: &Path, disk: &Path, ports: &Ports) -> String {
    let [plain, control, sasl, tls, mtls] =
        [&ports.plain, &ports.control, &ports.sasl, &ports.tls, &ports.mtls].map(Port::number);
    let (folder, disk) = (folder.display(), disk.display());
    let security = "org.apache.kafka.common.security";
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{control}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAIN
listeners=PLAIN://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{control},SASL://127.0.0.1:{sasl},TLS://127.0.0.1:{tls},MTLS://127.0.0.1:{mtls}
advertised.listeners=PLAIN://127.0.0.1:{plain},SASL://127.0.0.1:{sasl},TLS://localhost:{tls},MTLS://localhost:{mtls}
listener.security.protocol.map=PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL,MTLS:SSL
log.dirs={disk}/data
num.partitions=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=3
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
log.cleaner.dedupe.buffer.size=4194304
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl.plain.sasl.jaas.config={security}.plain.PlainLoginModule required user_alice=\"alice-pw\";
listener.name.sasl.scram-sha-256.sasl.jaas.config={security}.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-512.sasl.jaas.config={security}.scram.ScramLoginModule required;
listener.name.sasl.oauthbearer.sasl.jaas.config={security}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"thebroker\";
listener.name.sasl.oauthbearer.sasl.server.callback.handler.class={security}.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler
ssl.keystore.type=PEM
ssl.keystore.location={folder}/keystore.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
listener.name.mtls.ssl.client.auth=required
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
group.min.session.timeout.ms=500
"
    )
}
