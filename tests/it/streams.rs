//! Streaming subscriptions: an app that reads slowly, and processes that are killed while streams are open.

use crate::cluster::{Cluster, SOON, Sidecar, Spec, quick};
use outrigger_proto::dapr::runtime::v1 as proto;
use outrigger_testkit::audit::Events;
use outrigger_testkit::client::Client;
use proto::dapr_client::DaprClient;
use proto::subscribe_topic_events_request_alpha1::SubscribeTopicEventsRequestType as Said;
use proto::subscribe_topic_events_response_alpha1::SubscribeTopicEventsResponseType as Told;
use proto::topic_event_response::TopicEventResponseStatus;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// An open subscription.
struct Stream {
    requests: mpsc::Sender<proto::SubscribeTopicEventsRequestAlpha1>,
    responses: Streaming<proto::SubscribeTopicEventsResponseAlpha1>,
}

impl Stream {
    /// Subscribes to `events`; returns when the broker has accepted that.
    async fn open(sidecar: &Sidecar) -> Result<Self, Status> {
        let address = format!("http://127.0.0.1:{}", sidecar.grpc_port());
        let unreachable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
        let mut client = DaprClient::connect(address).await.map_err(unreachable)?;
        let (requests, outgoing) = mpsc::channel(16);
        let initial = proto::SubscribeTopicEventsRequestInitialAlpha1 {
            pubsub_name: "pubsub".to_owned(),
            topic: "events".to_owned(),
            ..Default::default()
        };
        say(&requests, Said::InitialRequest(initial)).await;
        let responses = client
            .subscribe_topic_events_alpha1(ReceiverStream::new(outgoing))
            .await?;
        let mut stream = Self {
            requests,
            responses: responses.into_inner(),
        };
        match stream.next().await? {
            Told::InitialResponse(_) => Ok(stream),
            Told::EventMessage(event) => panic!("{event:?} before the response"),
        }
    }

    async fn next(&mut self) -> Result<Told, Status> {
        let response = self.responses.message().await?;
        let response = response.ok_or_else(|| Status::unavailable("the stream has ended"))?;
        Ok(response
            .subscribe_topic_events_response_type
            .expect("one of the two"))
    }

    /// The next event's number, after it was noted and acknowledged.
    async fn take(&mut self, events: &mut Events) -> Result<u64, Status> {
        let Told::EventMessage(event) = self.next().await? else {
            panic!("a second response");
        };
        let data: serde_json::Value = serde_json::from_slice(&event.data).expect("JSON");
        let number = data["n"].as_u64().expect("the number we published");
        events.delivered(number, &event.id);
        let status = Some(proto::TopicEventResponse {
            status: TopicEventResponseStatus::Success.into(),
        });
        let processed = proto::SubscribeTopicEventsRequestProcessedAlpha1 { id: event.id, status };
        say(&self.requests, Said::EventProcessed(processed)).await;
        Ok(number)
    }
}

/// Whoever has gone away is noticed by the answers.
async fn say(requests: &mpsc::Sender<proto::SubscribeTopicEventsRequestAlpha1>, said: Said) {
    let request = proto::SubscribeTopicEventsRequestAlpha1 {
        subscribe_topic_events_request_type: Some(said),
    };
    requests.send(request).await.ok();
}

async fn publish(client: &Client, sidecar: &Sidecar, number: u64, size: usize) -> bool {
    let body = format!(r#"{{"n":{number},"padding":"{}"}}"#, "x".repeat(size));
    let answer = client
        .post_json(&sidecar.url("/v1.0/publish/pubsub/events"), body)
        .await;
    answer.is_ok_and(|answer| answer.status == 204)
}

fn spec<'a>(app_id: &'a str, resources: &'a std::path::Path) -> Spec<'a> {
    Spec {
        app_id,
        resources: Some(resources),
        hub: true,
        flags: &["--log-level", "error"],
        ..Spec::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_nobody_reads_costs_no_memory() {
    let cluster = Cluster::new();
    let mut hub = cluster.hub();
    hub.start();
    let resources = cluster.embedded();
    let mut sidecar = cluster.sidecar(&spec("app", &resources));
    sidecar.start().await;
    let client = Client::new(SOON);
    let mut stream = Stream::open(&sidecar).await.unwrap();
    let (size, mut number, mut events) = (64 << 10, 0, Events::default());
    while number < 50 {
        number += 1;
        assert!(publish(&client, &sidecar, number, size).await);
        stream.take(&mut events).await.unwrap();
    }
    let before = sidecar.process.resident();
    let count = if quick() { 200 } else { 1_000 };
    for _ in 0..count {
        number += 1;
        assert!(publish(&client, &sidecar, number, size).await);
        events.acknowledged(number);
    }
    let growth = sidecar.process.resident().saturating_sub(before);
    assert!(
        growth < 16 << 20,
        "{growth} bytes, with {count} events of 64 KiB not read"
    );
    while !events.verdict().lost.is_empty() {
        let taken = tokio::time::timeout(SOON, stream.take(&mut events)).await;
        taken.unwrap_or_else(|_| panic!("{}", events.verdict())).unwrap();
    }
    events.verdict().check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_under_an_open_stream() {
    let cluster = Cluster::new();
    let mut hub = cluster.hub();
    hub.start();
    let resources = cluster.embedded();
    let (mut front, mut back) = (
        cluster.sidecar(&spec("front", &resources)),
        cluster.sidecar(&spec("back", &resources)),
    );
    front.start().await;
    back.start().await;
    let client = Client::new(SOON * 2);
    let mut events = Events::default();
    let mut stream = Some(Stream::open(&back).await.unwrap());
    let kills = if quick() { 4 } else { 20 };
    let mut number = 0;
    for kill in 0..kills {
        // Some events are unread, some read and some acknowledged when it happens.
        for _ in 0..10 + kill % 5 {
            number += 1;
            if publish(&client, &front, number, 10).await {
                events.acknowledged(number);
            }
        }
        let deadline = Instant::now() + SOON;
        let mut taken = 0;
        while taken < 5 {
            assert!(
                Instant::now() < deadline,
                "nothing comes any more: {}",
                events.verdict()
            );
            match read(&mut stream, &back, &mut events).await {
                Ok(()) => taken += 1,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        let victim = if kill % 2 == 0 {
            &mut hub
        } else {
            &mut back.process
        };
        victim.kill();
        tokio::time::sleep(Duration::from_millis(kill * 7 % 50)).await;
        victim.start();
    }
    let mut last = Instant::now();
    while !events.verdict().lost.is_empty() {
        assert!(
            last.elapsed() < SOON,
            "nothing comes any more: {}",
            events.verdict()
        );
        match tokio::time::timeout(Duration::from_secs(1), read(&mut stream, &back, &mut events)).await {
            Ok(Ok(())) => last = Instant::now(),
            Ok(Err(_)) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    let verdict = events.verdict();
    verdict.check();
    report(kills, &verdict.to_string());
}

#[expect(clippy::print_stdout, reason = "the figures are what this test is for")]
fn report(kills: u64, verdict: &str) {
    println!("\nhub and sidecar of an open stream: {kills} kills, {verdict}");
}

/// Takes one event, over a new stream if there is none.
async fn read(stream: &mut Option<Stream>, sidecar: &Sidecar, events: &mut Events) -> Result<(), Status> {
    if stream.is_none() {
        *stream = Some(Stream::open(sidecar).await?);
    }
    let open = stream.as_mut().expect("it was just opened");
    match open.take(events).await {
        Ok(_) => Ok(()),
        Err(status) => {
            *stream = None;
            Err(status)
        }
    }
}
