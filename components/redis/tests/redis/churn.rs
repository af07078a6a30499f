//! `pubsub.redis` while its world changes.

use crate::support::{build, quick};
use outrigger_component::pubsub::PubSub;
use outrigger_testkit::conformance::pubsub::Nature;
use outrigger_testkit::conformance::pubsub::churn::{self, Group};
use outrigger_testkit::relay::Relay;
use outrigger_testkit::servers::redis::start;
use std::sync::Arc;
use std::time::Duration;

const NATURE: Nature = Nature::durable(Duration::from_secs(5));

async fn broker(host: &str) -> Arc<dyn PubSub> {
    build::broker(&quick(host, &[])).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_in_the_middle() {
    let Some(mut redis) = start(&[]).await else { return };
    let host = redis.host();
    let group = Group {
        connect: &|| Box::pin(broker(&host)),
        prefix: "churn-",
        nature: NATURE,
    };
    let restart = async {
        redis.kill();
        redis.restart().await;
    };
    churn::interrupted(&group, 10_000, restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut() {
    let Some(redis) = start(&[]).await else { return };
    let relay = Relay::start(redis.host().parse().expect("an address")).await;
    let host = format!("127.0.0.1:{}", relay.port());
    let group = Group {
        connect: &|| Box::pin(broker(&host)),
        prefix: "churn-",
        nature: NATURE,
    };
    let cut = async {
        relay.cut();
        // Longer than a message may be held unanswered.
        tokio::time::sleep(Duration::from_secs(10)).await;
        relay.heal();
    };
    churn::interrupted(&group, 2_000, cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_and_their_moods() {
    let Some(redis) = start(&[]).await else { return };
    let host = redis.host();
    let group = Group {
        connect: &|| Box::pin(broker(&host)),
        prefix: "churn-",
        nature: NATURE,
    };
    churn::members(&group, Duration::from_secs(15)).await;
    churn::poison(&group, 500).await;
    churn::slow(&group, 2000, Duration::from_secs(1)).await;
    churn::parallel(&group, 64, 50).await;
}
