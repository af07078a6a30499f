//! `pubsub.outrigger` while its world changes.

use super::Home;
use outrigger_component::pubsub::PubSub;
use outrigger_testkit::conformance::pubsub::Nature;
use outrigger_testkit::conformance::pubsub::churn::{self, Group};
use std::sync::Arc;
use std::time::Duration;

async fn broker(home: &Home) -> Arc<dyn PubSub> {
    let quick = [("redeliverInterval", "100ms"), ("processingTimeout", "5s")];
    Arc::new(home.broker("app", &quick).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_is_started_again() {
    let home = Home::start().await;
    let group = Group {
        connect: &|| Box::pin(broker(&home)),
        prefix: "churn-",
        nature: Nature::durable(Duration::from_secs(5)),
    };
    let restart = async {
        home.end().await;
        home.begin().await;
    };
    Box::pin(churn::interrupted(&group, 10_000, restart)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_and_their_moods() {
    let home = Home::start().await;
    let group = Group {
        connect: &|| Box::pin(broker(&home)),
        prefix: "churn-",
        nature: Nature::durable(Duration::from_secs(5)),
    };
    churn::members(&group, Duration::from_secs(8)).await;
    churn::poison(&group, 1000).await;
    churn::slow(&group, 2000, Duration::from_secs(1)).await;
    churn::parallel(&group, 64, 50).await;
}
