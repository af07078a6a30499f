//! `pubsub.jetstream`.

use super::server::{api, broker, build, make_stream};
use futures::StreamExt;
use futures::future::FutureExt;
use outrigger_component::error::Kind;
use outrigger_component::pubsub::{Outcome, Outgoing};
use outrigger_testkit::audit::Events;
use outrigger_testkit::broker::{expect, message, next, subscribe, text, to};
use outrigger_testkit::conformance::pubsub::{self, Nature, churn};
use outrigger_testkit::relay::Relay;
use outrigger_testkit::servers::nats::{Nats, start};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const NATURE: Nature = Nature::durable(Duration::from_secs(4));

/// A server with a stream.
async fn server() -> Option<Nats> {
    let nats = start("").await?;
    make_stream(&nats).await;
    Some(nats)
}

async fn consumer(nats: &Nats, name: &str) -> Value {
    api(nats, &format!("CONSUMER.INFO.S.{name}"), Value::Null).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_group_conforms() {
    let Some(nats) = server().await else { return };
    // What is on its way to somebody who leaves comes to somebody else after `ackWait`, as if a member had died: no client can
    // give back what it has not seen.
    let metadata = [("concurrency", "parallel"), ("ackWait", "2s")];
    let broker = broker(&nats.url(), &metadata).await;
    pubsub::run(&*broker, "t.", NATURE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passing_subscriptions_conform() {
    let Some(nats) = server().await else { return };
    // As the reference's own conformance tests have it, but for those who are there.
    let metadata = [
        ("natsURL", nats.url()),
        ("name", "config-test".to_owned()),
        ("flowControl", "true".to_owned()),
        ("heartbeat", "5s".to_owned()),
        ("deliverPolicy", "new".to_owned()),
        ("ackWait", "1s".to_owned()),
    ];
    let metadata: Vec<(&str, &str)> = metadata
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let broker = build(&metadata).await.unwrap();
    pubsub::run(&*broker, "t.", Nature::passing(Duration::from_secs(4))).await;
}

/// Ten thousand messages, and the server killed in the middle and started again. (A killed process loses nothing that it has
/// written, synced or not; `sync_interval`, which a lost machine would make a difference to, is younger than Debian's server.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_nothing() {
    let Some(mut nats) = server().await else { return };
    let url = nats.url();
    let connect = || async { broker(&url, &[("concurrency", "parallel")]).await }.boxed();
    let group = churn::Group {
        connect: &connect,
        prefix: "t.",
        nature: NATURE,
    };
    churn::interrupted(&group, 10_016, async {
        nats.kill();
        // Away long enough to be missed.
        tokio::time::sleep(Duration::from_secs(1)).await;
        nats.restart().await;
    })
    .await;
}

/// The connection ends; then the other side falls silent for longer than it takes to notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_loses_nothing() {
    let Some(nats) = server().await else { return };
    let relay = Relay::start(([127, 0, 0, 1], nats.port()).into()).await;
    let url = format!("nats://127.0.0.1:{}", relay.port());
    let connect = || async { broker(&url, &[("ackWait", "2s")]).await }.boxed();
    let group = churn::Group {
        connect: &connect,
        prefix: "t.",
        nature: NATURE,
    };
    churn::interrupted(&group, 2000, async {
        // How long each lasts is the case.
        for _ in 0..3 {
            relay.cut();
            tokio::time::sleep(Duration::from_millis(700)).await;
            relay.heal();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        relay.silence();
        tokio::time::sleep(Duration::from_secs(7)).await;
        relay.heal();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go() {
    let Some(nats) = server().await else { return };
    let url = nats.url();
    let metadata = [("ackWait", "2s"), ("concurrency", "parallel")];
    let connect = || async { broker(&url, &metadata).await }.boxed();
    let group = churn::Group {
        connect: &connect,
        prefix: "t.",
        nature: NATURE,
    };
    churn::members(&group, Duration::from_secs(12)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_and_slow_members() {
    let Some(nats) = server().await else { return };
    let url = nats.url();
    let quick = || async { broker(&url, &[("concurrency", "parallel")]).await }.boxed();
    churn::poison(
        &churn::Group {
            connect: &quick,
            prefix: "t.",
            nature: NATURE,
        },
        640,
    )
    .await;
    churn::parallel(
        &churn::Group {
            connect: &quick,
            prefix: "t.",
            nature: NATURE,
        },
        64,
        50,
    )
    .await;
    let metadata = [
        ("ackWait", "1s"),
        ("maxAckPending", "20"),
        ("concurrency", "parallel"),
    ];
    let slow = || async { broker(&url, &metadata).await }.boxed();
    let limited = churn::Group {
        connect: &slow,
        prefix: "t.limited.",
        nature: NATURE,
    };
    churn::slow(&limited, 640, Duration::from_secs(4)).await;
}

/// An app that takes longer than `ackWait`, and messages that wait behind it: each comes once.
#[tokio::test]
async fn slow_apps_are_no_reason_to_deliver_again() {
    let Some(nats) = server().await else { return };
    let broker = broker(&nats.url(), &[("ackWait", "1s")]).await;
    let mut inbox = subscribe(&*broker, "t.slow").await;
    assert_eq!(inbox.concurrency, 1);
    let mut events = Events::default();
    for number in 0..60 {
        broker
            .publish(message("t.slow", &number.to_string()))
            .await
            .unwrap();
        events.acknowledged(number);
    }
    for number in 0..60 {
        let delivery = next(&mut inbox).await;
        events.delivered(text(&delivery).parse().unwrap(), "");
        if number == 0 {
            // Four times as long as the server waits.
            tokio::time::sleep(Duration::from_secs(4)).await;
        }
        delivery.settle(Outcome::Ack);
    }
    broker.close().await;
    let verdict = events.verdict();
    verdict.check();
    assert_eq!(verdict.duplicates, 0, "{verdict}");
    let info = consumer(&nats, "app").await;
    assert_eq!(
        (
            &info["num_redelivered"],
            &info["num_ack_pending"],
            &info["ack_floor"]["stream_seq"]
        ),
        (&json!(0), &json!(0), &json!(60)),
        "{info}"
    );
}

/// COMPAT(components-contrib pubsub/jetstream): subjects, the event's id, what the consumer is made with. Metadata are ours.
#[tokio::test]
async fn messages_and_consumers_are_as_the_references() {
    let Some(nats) = server().await else { return };
    let broker = broker(
        &nats.url(),
        &[
            ("ackWait", "7s"),
            ("maxDeliver", "4"),
            ("backOff", "1s,2s"),
            ("maxAckPending", "50"),
            ("rateLimit", "1000000"),
            ("heartbeat", "5s"),
            ("flowControl", "true"),
            ("deliverPolicy", "sequence"),
            ("startSequence", "2"),
            ("memoryStorage", "true"),
            ("replicas", "1"),
        ],
    )
    .await;
    let event = r#"{"specversion":"1.0","id":"42","data":{"id":7}}"#;
    let sent = Outgoing {
        metadata: [("a", "b c"), ("Nats-Rollup", "all"), ("bad name", "x\ny")]
            .into_iter()
            .collect(),
        ..message("t.a.b", event)
    };
    for _ in 0..2 {
        broker.publish(sent.clone()).await.unwrap();
    }
    broker.publish(message("t.a.b", "raw")).await.unwrap();
    broker.publish(message("t.a.b", r#"{"id":7}"#)).await.unwrap();
    let client = async_nats::connect(nats.url()).await.unwrap();
    let first = client
        .request("$JS.API.STREAM.MSG.GET.S", r#"{"seq":1}"#.into())
        .await
        .unwrap();
    let first: Value = serde_json::from_slice(&first.payload).unwrap();
    assert_eq!(first["message"]["subject"], "t.a.b");
    let info = api(&nats, "STREAM.INFO.S", Value::Null).await;
    assert_eq!(info["state"]["messages"], 3, "the event was stored once");

    let mut wild = subscribe(&*broker, "t.a.*").await;
    let config = &consumer(&nats, "app").await["config"];
    for (name, expected) in [
        ("deliver_group", json!("app")),
        ("filter_subject", json!("t.a.*")),
        ("deliver_policy", json!("by_start_sequence")),
        ("opt_start_seq", json!(2)),
        ("ack_policy", json!("explicit")),
        ("max_deliver", json!(4)),
        ("backoff", json!([1_000_000_000_u64, 2_000_000_000_u64])),
        ("max_ack_pending", json!(50)),
        ("rate_limit_bps", json!(1_000_000)),
        ("idle_heartbeat", json!(5_000_000_000_u64)),
        ("flow_control", json!(true)),
        ("mem_storage", json!(true)),
    ] {
        assert_eq!(config[name], expected, "{name} in {config}");
    }
    expect(&mut wild, "raw").await;
    let last = next(&mut wild).await;
    assert_eq!(last.message.topic, "t.a.*");
    assert_eq!(last.message.metadata.get("Topic"), Some("t.a.b"));
    last.settle(Outcome::Ack);

    let all = build(&[("natsURL", nats.url().as_str()), ("streamName", "S")])
        .await
        .unwrap();
    let mut all = subscribe(&*all, "t.a.b").await;
    let delivery = next(&mut all).await;
    assert_eq!(
        (text(&delivery).as_str(), delivery.message.metadata.get("a")),
        (event, Some("b c"))
    );
    assert_eq!(delivery.message.metadata.get("Nats-Rollup"), None);
    delivery.settle(Outcome::Ack);
}

/// A refused message comes after the times of `backOff`, and not more often than `maxDeliver`.
#[tokio::test]
async fn refused_messages_come_again_when_told() {
    let Some(nats) = server().await else { return };
    let broker = broker(&nats.url(), &[("backOff", "300ms,900ms"), ("maxDeliver", "3")]).await;
    let mut inbox = subscribe(&*broker, "t.x").await;
    broker.publish(message("t.x", "bad")).await.unwrap();
    let began = Instant::now();
    for (from, to) in [(0, 250), (280, 800), (1150, 2500)] {
        let delivery = next(&mut inbox).await;
        let after = began.elapsed().as_millis();
        assert!(
            (from..to).contains(&after),
            "after {after} ms, not {from} to {to}"
        );
        delivery.settle(Outcome::Nack);
    }
    broker.publish(message("t.x", "good")).await.unwrap();
    expect(&mut inbox, "good").await;
    let more = tokio::time::timeout(Duration::from_millis(1500), inbox.deliveries.next()).await;
    assert!(more.is_err(), "{more:?}");
}

/// One durable name for several topics; what others have made is respected.
#[tokio::test]
async fn durable_consumers() {
    let Some(nats) = server().await else { return };
    let url = nats.url();
    let alone = build(&[("natsURL", url.as_str()), ("durableName", "d")])
        .await
        .unwrap();
    let mut first = subscribe(&*alone, "t.1").await;
    let mut second = subscribe(&*alone, "t.2").await;
    alone.publish(message("t.1", "1")).await.unwrap();
    alone.publish(message("t.2", "2")).await.unwrap();
    expect(&mut first, "1").await;
    expect(&mut second, "2").await;
    assert_eq!(consumer(&nats, "d").await["config"]["filter_subject"], "t.1");
    assert_eq!(
        consumer(&nats, "d_t_2E2").await["config"]["filter_subject"],
        "t.2"
    );
    let other = build(&[("natsURL", url.as_str()), ("durableName", "d")])
        .await
        .unwrap();
    let taken = other.subscribe(to("t.1")).await.err().unwrap();
    assert_eq!(taken.kind, Kind::Unavailable, "{taken}");
    assert!(taken.message.contains("queueGroupName"), "{taken}");
    drop((first, second));
    let mut third = subscribe(&*other, "t.1").await;
    alone.publish(message("t.1", "3")).await.unwrap();
    expect(&mut third, "3").await;
    let changed = build(&[
        ("natsURL", url.as_str()),
        ("durableName", "d"),
        ("maxDeliver", "9"),
    ])
    .await
    .unwrap();
    let differs = changed.subscribe(to("t.1")).await.err().unwrap();
    assert_eq!(differs.kind, Kind::Invalid, "{differs}");
    assert!(differs.message.contains("another maxDeliver"), "{differs}");
    let nowhere = alone.subscribe(to("elsewhere")).await.err().unwrap();
    assert_eq!(nowhere.kind, Kind::NotFound, "{nowhere}");
    assert!(
        nowhere.message.contains("no stream matches subject elsewhere"),
        "{nowhere}"
    );
    let unsent = alone.publish(message("elsewhere", "x")).await.unwrap_err();
    assert_eq!(unsent.kind, Kind::Unavailable, "{unsent}");
    let odd = alone.publish(message("t. x", "x")).await.unwrap_err();
    assert_eq!(odd.kind, Kind::Invalid, "{odd}");
    let large = alone
        .publish(message("t.1", &"x".repeat(2 << 20)))
        .await
        .unwrap_err();
    assert_eq!(large.kind, Kind::Exhausted, "{large}");
    alone.close().await;
    assert_eq!(
        alone.publish(message("t.1", "x")).await.unwrap_err().message,
        "component is closed"
    );
}

/// Somebody removes the consumer: another takes its place and begins where it ended.
#[tokio::test]
async fn a_lost_consumer_comes_back() {
    let Some(nats) = server().await else { return };
    let broker = broker(&nats.url(), &[("heartbeat", "200ms")]).await;
    let mut inbox = subscribe(&*broker, "t.x").await;
    for content in ["1", "2", "3"] {
        broker.publish(message("t.x", content)).await.unwrap();
    }
    expect(&mut inbox, "1").await;
    let held = next(&mut inbox).await;
    let refused = next(&mut inbox).await;
    refused.settle(Outcome::Nack);
    api(&nats, "CONSUMER.DELETE.S.app", Value::Null).await;
    broker.publish(message("t.x", "4")).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let delivery = next(&mut inbox).await;
        seen.push(text(&delivery));
        delivery.settle(Outcome::Ack);
    }
    seen.sort();
    assert_eq!(seen, ["3", "4"], "what is held does not come twice");
    held.settle(Outcome::Ack);
    drop(inbox);
    broker.close().await;
}

/// With `ackPolicy: all`, the mark does not pass what is held; with `none`, there is none.
#[tokio::test]
async fn other_acknowledgements() {
    let Some(nats) = server().await else { return };
    let url = nats.url();
    let all = build(&[
        ("natsURL", url.as_str()),
        ("durableName", "all"),
        ("ackPolicy", "all"),
        ("ackWait", "1s"),
    ])
    .await
    .unwrap();
    let mut inbox = subscribe(&*all, "t.all").await;
    for content in ["1", "2", "3"] {
        all.publish(message("t.all", content)).await.unwrap();
    }
    let held = next(&mut inbox).await;
    expect(&mut inbox, "2").await;
    expect(&mut inbox, "3").await;
    let quiet = tokio::time::timeout(Duration::from_millis(2500), inbox.deliveries.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    assert_eq!(
        consumer(&nats, "all").await["ack_floor"]["consumer_seq"],
        0,
        "1 is held"
    );
    held.settle(Outcome::Ack);
    drop(inbox);
    all.close().await;
    assert_eq!(consumer(&nats, "all").await["ack_floor"]["consumer_seq"], 3);

    let none = build(&[
        ("natsURL", url.as_str()),
        ("durableName", "none"),
        ("ackPolicy", "none"),
    ])
    .await
    .unwrap();
    let mut inbox = subscribe(&*none, "t.none").await;
    none.publish(message("t.none", "1")).await.unwrap();
    next(&mut inbox).await.settle(Outcome::Nack);
    none.publish(message("t.none", "2")).await.unwrap();
    expect(&mut inbox, "2").await;
}

/// While there is no server, publishing ends in time and says why; afterwards it works again.
#[tokio::test]
async fn publishing_without_a_server_ends_in_time() {
    let Some(mut nats) = server().await else { return };
    let broker = broker(&nats.url(), &[]).await;
    nats.kill();
    let began = Instant::now();
    let error = broker.publish(message("t.x", "1")).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert!(error.is_retryable(), "{error:?}");
    assert!(error.message.contains("t.x"), "{error}");
    assert_eq!(broker.ping().await.unwrap_err().kind, Kind::Unavailable);
    let (published, ()) = tokio::join!(
        async {
            loop {
                match broker.publish(message("t.x", "2")).await {
                    Ok(()) => break,
                    Err(error) => assert!(error.is_retryable(), "{error:?}"),
                }
            }
        },
        nats.restart()
    );
    let () = published;
}

#[tokio::test]
async fn settings_refused() {
    for (metadata, expected) in [
        (&[][..], "missing nats URL"),
        (&[("natsURL", "a"), ("jwt", "x")], "missing seed key"),
        (&[("natsURL", "a"), ("jwt", "x"), ("seedKey", "y")], "seedKey"),
        (
            &[("natsURL", "a"), ("deliverPolicy", "x")],
            "deliver policy x is not one of",
        ),
        (
            &[("natsURL", "a"), ("concurrency", "x")],
            "invalid concurrencyMode x",
        ),
        (&[("natsURL", "http://a")], "natsURL"),
        (
            &[
                ("natsURL", "a"),
                ("tls_client_cert", "/nowhere"),
                ("tls_client_key", "/nowhere"),
            ],
            "tls_client_cert is neither PEM nor a file",
        ),
        (&[("natsURL", "a"), ("maxDeliver", "x")], "maxDeliver"),
    ] {
        let error = build(metadata).await.err().expect(expected);
        assert_eq!(error.kind, Kind::Invalid, "{error}");
        assert!(error.message.contains(expected), "{error}");
    }
}
