//! Against three real brokers that replicate to each other, of which one is killed under load; skipped loudly where none can
//! be had.

use futures::future::BoxFuture;
use outrigger_component::pubsub::PubSub;
use outrigger_component::registry::Registry;
use outrigger_components_kafka::register;
use outrigger_testkit::conformance::pubsub::churn::{self, Group};
use outrigger_testkit::conformance::pubsub::{Nature, Order};
use outrigger_testkit::servers::kafka::cluster::{self, Cluster};
use outrigger_testkit::setup::setup;
use outrigger_testkit::until::until;
use std::sync::Arc;
use std::time::Duration;

const MESSAGES: u64 = 20_000;
/// For a message, and for somebody else to take over.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
enum Victim {
    Leader,
    Coordinator,
}

impl Victim {
    async fn find(self, cluster: &Cluster, topic: &str, group: &str) -> usize {
        match self {
            Self::Leader => cluster.leader(topic).await,
            Self::Coordinator => cluster.coordinator(group).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_with_a_broker() {
    let Some(mut cluster) = cluster::start().await else {
        return;
    };
    let brokers = cluster.plain();
    for (victim, prefix, strategy) in [
        (Victim::Leader, "leader-", "range"),
        (Victim::Coordinator, "coordinator-", "cooperative-sticky"),
    ] {
        let topic = format!("{prefix}interrupted");
        cluster.create(&topic, 6).await;
        let connect = || -> BoxFuture<'_, Arc<dyn PubSub>> {
            Box::pin(async {
                let metadata = [
                    ("brokers", brokers.as_str()),
                    ("authType", "none"),
                    ("consumerGroup", prefix),
                    ("consumerGroupRebalanceStrategy", strategy),
                    ("heartbeatInterval", "300ms"),
                    ("sessionTimeout", "6s"),
                    ("initialOffset", "oldest"),
                ];
                let mut registry = Registry::default();
                register(&mut registry);
                registry
                    .brokers()
                    .build("kafka", "v1", setup(&metadata))
                    .await
                    .unwrap()
            })
        };
        let group = Group {
            connect: &connect,
            prefix,
            nature: Nature {
                order: Order::PerKey("partitionKey"),
                holds: true,
                repeats: true,
                patience: PATIENCE,
                ..Nature::durable(Duration::from_secs(3))
            },
        };
        let killed = async {
            let place = victim.find(&cluster, &topic, prefix).await;
            cluster.kill(place);
            // What it had is somebody else's before it comes back.
            until("somebody else takes over", PATIENCE, async || {
                victim.find(&cluster, &topic, prefix).await != place
            })
            .await;
            cluster.restart(place).await;
            cluster.settle(&topic).await;
        };
        churn::interrupted(&group, MESSAGES, killed).await;
    }
}
