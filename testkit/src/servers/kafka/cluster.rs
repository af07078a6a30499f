//! Three brokers that are controllers, too, and keep three copies of each partition, of which two must be in sync.

use super::{Life, ask, begin, create, format, jars, life, ready, text};
use crate::port::Port;
use crate::until::answered;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

const BROKERS: u8 = 3;
/// How long brokers may take to agree on something.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Cluster {
    jars: PathBuf,
    brokers: Vec<Broker>,
}

struct Broker {
    life: Life,
    folder: TempDir,
    plain: Port,
    control: Port,
}

/// Starts the brokers. `None`, said loudly, if Java or the jars cannot be had.
///
/// # Panics
/// When brokers that can be had do not start.
pub async fn start() -> Option<Cluster> {
    let jars = jars()?;
    let broker = |_| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Broker {
            life: life(folder.path()),
            folder,
            plain: Port::take(),
            control: Port::take(),
        }
    };
    let mut cluster = Cluster {
        jars,
        brokers: (0..BROKERS).map(broker).collect(),
    };
    let voters: Vec<String> = (1..)
        .zip(&cluster.brokers)
        .map(|(node, broker)| broker.vote(node))
        .collect();
    for (node, broker) in (1..).zip(&cluster.brokers) {
        let properties = properties(node, broker, &voters.join(","));
        fs::write(broker.folder.path().join("server.properties"), properties)
            .expect("the folder takes files");
        format(&cluster.jars, broker.folder.path(), &[]);
    }
    for broker in &mut cluster.brokers {
        begin(&mut broker.life, &cluster.jars, broker.folder.path());
    }
    for broker in &cluster.brokers {
        ready(&broker.life, broker.plain.number()).await;
    }
    Some(cluster)
}

impl Cluster {
    /// `127.0.0.1:port` of all brokers, with commas between.
    pub fn plain(&self) -> String {
        let addresses = self
            .brokers
            .iter()
            .map(|broker| format!("127.0.0.1:{}", broker.plain.number()));
        addresses.collect::<Vec<_>>().join(",")
    }

    /// Makes a topic of which each partition is on all brokers, and waits until it is.
    ///
    /// # Panics
    /// When the brokers do not.
    pub async fn create(&self, topic: &str, partitions: u8) {
        create(self.any().plain.number(), topic, partitions, BROKERS).await;
        self.settle(topic).await;
    }

    /// Waits until all copies of a topic are in sync.
    ///
    /// # Panics
    /// When they do not become so.
    pub async fn settle(&self, topic: &str) {
        self.until("all copies are in sync", async || {
            let partitions = self.partitions(topic).await?;
            let synced =
                |partition: &Partition| partition.in_sync == u32::from(BROKERS) && partition.leader.is_some();
            (!partitions.is_empty() && partitions.iter().all(synced)).then_some(())
        })
        .await;
    }

    /// The broker (from 0 on) that leads a topic's first partition, as soon as there is one.
    ///
    /// # Panics
    /// When there is none in time.
    pub async fn leader(&self, topic: &str) -> usize {
        self.until("somebody leads", async || {
            self.partitions(topic).await?.first()?.leader
        })
        .await
    }

    /// The broker (from 0 on) that coordinates a consumer group, as soon as there is one.
    ///
    /// # Panics
    /// When there is none in time.
    pub async fn coordinator(&self, group: &str) -> usize {
        self.until("somebody coordinates", async || {
            // FindCoordinator v1, of a group.
            let request = [text(group), vec![0]].concat();
            let mut answer = Answer(ask(self.any().plain.number(), 10, 1, &request).await?);
            answer.skip(4);
            if answer.number(2)? != 0 {
                return None;
            }
            answer.text()?;
            node(answer.number(4)?)
        })
        .await
    }

    /// SIGKILL: no farewell, no flush.
    ///
    /// # Panics
    /// When the broker is not running.
    pub fn kill(&mut self, broker: usize) {
        self.brokers[broker].life.kill();
    }

    /// Starts a broker again on the same ports and files.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self, broker: usize) {
        let Broker {
            life, folder, plain, ..
        } = &mut self.brokers[broker];
        begin(life, &self.jars, folder.path());
        ready(life, plain.number()).await;
    }

    fn any(&self) -> &Broker {
        let running = self.brokers.iter().find(|broker| broker.life.pid().is_some());
        running.expect("a broker runs")
    }

    async fn until<T>(&self, what: &str, attempt: impl AsyncFn() -> Option<T>) -> T {
        let found = answered(PATIENCE, attempt).await;
        found.unwrap_or_else(|| panic!("{what}: not in {PATIENCE:?}"))
    }

    async fn partitions(&self, topic: &str) -> Option<Vec<Partition>> {
        // Metadata v7 of one topic, which is not made.
        let request = [vec![0, 0, 0, 1], text(topic), vec![0]].concat();
        let mut answer = Answer(ask(self.any().plain.number(), 3, 7, &request).await?);
        answer.skip(4);
        for _ in 0..answer.number(4)? {
            answer.skip(4);
            answer.text()?;
            answer.skip(4);
            answer.text()?;
        }
        answer.text()?;
        answer.skip(4 + 4 + 2);
        answer.text()?;
        answer.skip(1);
        let mut partitions = Vec::new();
        for _ in 0..answer.number(4)? {
            answer.skip(2);
            let number = answer.number(4)?;
            let leader = node(answer.number(4)?);
            answer.skip(4);
            let mut lists = [0; 3];
            for count in &mut lists {
                *count = answer.number(4)?;
                answer.skip(4 * usize::try_from(*count).ok()?);
            }
            partitions.push(Partition {
                number,
                leader,
                in_sync: lists[1],
            });
        }
        partitions.sort_by_key(|partition| partition.number);
        Some(partitions)
    }
}

struct Partition {
    number: u32,
    leader: Option<usize>,
    in_sync: u32,
}

/// Brokers are numbered from 1 on among themselves; nobody is -1.
fn node(id: u32) -> Option<usize> {
    usize::try_from(id.checked_sub(1)?)
        .ok()
        .filter(|place| *place < usize::from(BROKERS))
}

/// What is still to be read.
struct Answer(Vec<u8>);

impl Answer {
    fn skip(&mut self, bytes: usize) {
        self.0.drain(..bytes.min(self.0.len()));
    }

    /// Big-endian, of so many bytes.
    fn number(&mut self, bytes: usize) -> Option<u32> {
        let number = self
            .0
            .get(..bytes)?
            .iter()
            .fold(0, |number, byte| (number << 8) | u32::from(*byte));
        self.skip(bytes);
        Some(number)
    }

    /// Passes over a text, or over none.
    fn text(&mut self) -> Option<()> {
        let length = self.number(2)?;
        self.skip(if length == 0xffff {
            0
        } else {
            usize::try_from(length).ok()?
        });
        Some(())
    }
}

impl Broker {
    fn vote(&self, node: u8) -> String {
        format!("{node}@127.0.0.1:{}", self.control.number())
    }
}

fn properties(node: u8, broker: &Broker, voters: &str) -> String {
    let (plain, control) = (broker.plain.number(), broker.control.number());
    let folder = broker.folder.path().display();
    format!(
        "process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAIN
listeners=PLAIN://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{control}
advertised.listeners=PLAIN://127.0.0.1:{plain}
listener.security.protocol.map=PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}/data
auto.create.topics.enable=false
default.replication.factor={BROKERS}
min.insync.replicas=2
offsets.topic.replication.factor={BROKERS}
offsets.topic.num.partitions=3
transaction.state.log.replication.factor={BROKERS}
transaction.state.log.min.isr=2
transaction.state.log.num.partitions=3
share.coordinator.state.topic.replication.factor={BROKERS}
share.coordinator.state.topic.min.isr=2
log.cleaner.dedupe.buffer.size=4194304
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1500
group.min.session.timeout.ms=500
"
    )
}
