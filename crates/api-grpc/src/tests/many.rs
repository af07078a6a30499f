//! A thousand topics with a hundred subscriptions each: what they cost while nothing happens, and that all of them get
//! what is published.

use super::bench::Bench;
use bytes::Bytes;
use outrigger_channel::app::Outcome;
use outrigger_runtime::pubsub::publish::Publish;
use outrigger_runtime::pubsub::stream::{Stream, Subscribe};

const TOPICS: usize = 1_000;
const EACH: usize = 100;
/// Bytes of one subscription, in a build without optimisation.
const MOST: u64 = 8 << 10;

#[tokio::test]
async fn a_hundred_thousand_subscriptions() {
    let bench = Bench::new().await;
    let before = resident();
    let mut streams: Vec<Vec<Stream>> = Vec::with_capacity(TOPICS);
    for topic in 0..TOPICS {
        let mut of_topic = Vec::with_capacity(EACH);
        for _ in 0..EACH {
            let subscribe = Subscribe {
                pubsub: "p".to_owned(),
                topic: format!("topic-{topic}"),
                ..Subscribe::default()
            };
            of_topic.push(bench.pubsub.stream(subscribe).await.unwrap());
        }
        streams.push(of_topic);
    }
    let each = resident().saturating_sub(before) / (TOPICS * EACH) as u64;
    for topic in [0, TOPICS / 2, TOPICS - 1] {
        let publish = Publish {
            pubsub: "p".to_owned(),
            topic: format!("topic-{topic}"),
            data: Bytes::from_static(b"all of you"),
            ..Publish::default()
        };
        bench.pubsub.publish(publish).await.unwrap();
        for stream in &mut streams[topic] {
            let event = stream.events.next().await.unwrap();
            assert_eq!(event.event.topic, format!("topic-{topic}"));
            stream.replies.settle(&event.id, Outcome::Success);
        }
    }
    eprintln!("{each} bytes for each of {} subscriptions", TOPICS * EACH);
    assert!(each < MOST, "{each} bytes each");
}

/// What this process has in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib << 10
}
