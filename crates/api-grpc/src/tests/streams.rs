//! Streaming subscriptions.

use super::bench::Bench;
use bytes::Bytes;
use outrigger_proto::dapr::runtime::v1 as proto;
use outrigger_proto::dapr::runtime::v1::dapr_client::DaprClient;
use proto::subscribe_topic_events_request_alpha1::SubscribeTopicEventsRequestType as Asked;
use proto::subscribe_topic_events_response_alpha1::SubscribeTopicEventsResponseType as Told;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// An app's side of a stream.
struct Subscriber {
    ask: mpsc::Sender<proto::SubscribeTopicEventsRequestAlpha1>,
    told: Streaming<proto::SubscribeTopicEventsResponseAlpha1>,
}

fn asked(asked: Asked) -> proto::SubscribeTopicEventsRequestAlpha1 {
    proto::SubscribeTopicEventsRequestAlpha1 {
        subscribe_topic_events_request_type: Some(asked),
    }
}

fn initial(pubsub: &str, topic: &str) -> Asked {
    Asked::InitialRequest(proto::SubscribeTopicEventsRequestInitialAlpha1 {
        pubsub_name: pubsub.to_owned(),
        topic: topic.to_owned(),
        ..Default::default()
    })
}

fn processed(id: &str, status: i32) -> Asked {
    let status = Some(proto::TopicEventResponse { status });
    Asked::EventProcessed(proto::SubscribeTopicEventsRequestProcessedAlpha1 {
        id: id.to_owned(),
        status,
    })
}

impl Subscriber {
    async fn begin(client: &mut DaprClient<Channel>, first: Asked) -> Result<Self, Status> {
        let (ask, asks) = mpsc::channel(8);
        ask.send(asked(first)).await.unwrap();
        let asks = futures::stream::unfold(asks, async |mut asks| Some((asks.recv().await?, asks)));
        let told = client.subscribe_topic_events_alpha1(asks).await?.into_inner();
        Ok(Self { ask, told })
    }

    async fn next(&mut self) -> Result<Option<Told>, Status> {
        let next = tokio::time::timeout(Duration::from_secs(10), self.told.message())
            .await
            .expect("nothing comes");
        Ok(next?.map(|told| told.subscribe_topic_events_response_type.unwrap()))
    }

    async fn event(&mut self) -> proto::TopicEventRequest {
        match self.next().await.unwrap() {
            Some(Told::EventMessage(event)) => event,
            other => panic!("{other:?} is no event"),
        }
    }

    async fn say(&self, what: Asked) {
        self.ask.send(asked(what)).await.unwrap();
    }
}

async fn publish(client: &mut DaprClient<Channel>, data: &str) {
    let event = proto::PublishEventRequest {
        pubsub_name: "p".to_owned(),
        topic: "t".to_owned(),
        data: Bytes::copy_from_slice(data.as_bytes()),
        data_content_type: "application/json".to_owned(),
        ..Default::default()
    };
    client.publish_event(event).await.unwrap();
}

#[tokio::test]
async fn events_come_and_are_settled() {
    let Bench { client, pubsub, .. } = &mut Bench::new().await;
    let mut app = Subscriber::begin(client, initial("p", "t")).await.unwrap();
    assert_eq!(
        app.next().await.unwrap(),
        Some(Told::InitialResponse(
            proto::SubscribeTopicEventsResponseInitialAlpha1 {}
        ))
    );
    assert_eq!(pubsub.active().len(), 1);

    publish(client, r#"{"n":1}"#).await;
    let event = app.event().await;
    assert_eq!(
        (
            event.pubsub_name.as_str(),
            event.topic.as_str(),
            event.path.as_str()
        ),
        ("p", "t", "/")
    );
    assert_eq!(
        (event.data_content_type.as_str(), &event.data[..]),
        ("application/json", &br#"{"n":1}"#[..])
    );
    // Given back: it comes again, and once it is accepted no more.
    app.say(processed(&event.id, 1)).await;
    let again = app.event().await;
    assert_eq!(again.id, event.id);
    app.say(processed("nobody", 0)).await;
    app.say(processed(&again.id, 0)).await;
    publish(client, r#"{"n":2}"#).await;
    let event = app.event().await;
    assert_eq!(&event.data[..], br#"{"n":2}"#);

    // A status that does not exist is a retry.
    app.say(processed(&event.id, 77)).await;
    let again = app.event().await;
    assert_eq!(again.id, event.id);
    app.say(processed(&again.id, 2)).await;

    // Both sides may be busy at once.
    for number in 0..20 {
        publish(client, &number.to_string()).await;
    }
    for _ in 0..20 {
        let event = app.event().await;
        app.say(processed(&event.id, 0)).await;
    }

    // The app has said all it will.
    let Subscriber { ask, mut told } = app;
    drop(ask);
    assert!(told.message().await.unwrap().is_none());
    let mut changes = pubsub.changes();
    changes
        .wait_for(|lists| lists.all().next().is_none())
        .await
        .unwrap();
}

#[tokio::test]
async fn hanging_up_unsubscribes() {
    let Bench { client, pubsub, .. } = &mut Bench::new().await;
    let mut app = Subscriber::begin(client, initial("p", "t")).await.unwrap();
    app.next().await.unwrap();
    publish(client, "1").await;
    let held = app.event().await;
    drop(app);
    let gone = async {
        pubsub
            .changes()
            .wait_for(|lists| lists.all().next().is_none())
            .await
            .unwrap();
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("the subscription does not end");
    assert!(!held.id.is_empty());
}

#[tokio::test]
async fn stopping_ends_streams() {
    let Bench { client, pubsub, .. } = &mut Bench::new().await;
    let mut app = Subscriber::begin(client, initial("p", "t")).await.unwrap();
    app.next().await.unwrap();
    pubsub.stop(Duration::from_secs(5)).await;
    let end = app.next().await.unwrap_err();
    assert_eq!((end.code(), end.message()), (Code::Unknown, "stream closed"));
}

#[tokio::test]
async fn draining_ends_streams_that_say_nothing() {
    let Bench { client, drain, .. } = &mut Bench::new().await;
    let (ask, asks) = mpsc::channel(1);
    let asks = futures::stream::unfold(asks, async |mut asks: mpsc::Receiver<_>| {
        Some((asks.recv().await?, asks))
    });
    let firing = async {
        tokio::task::yield_now().await;
        drain.fire();
    };
    let (answer, ()) = tokio::join!(client.subscribe_topic_events_alpha1(asks), firing);
    let status = answer.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unknown, "api server closed")
    );
    drop(ask);
}

#[tokio::test]
async fn refusals() {
    let Bench { client, pubsub, .. } = &mut Bench::new().await;
    for (first, code, text) in [
        (processed("1", 0), Code::Unknown, "initial request is required"),
        (initial("", "t"), Code::Unknown, "pubsubName is required"),
        (initial("p", ""), Code::Unknown, "topic is required"),
        (
            initial("none", "t"),
            Code::InvalidArgument,
            "pubsub none is not found",
        ),
    ] {
        let Err(status) = Subscriber::begin(client, first).await else {
            panic!("{text}: accepted")
        };
        assert_eq!((status.code(), status.message()), (code, text));
    }
    let mut app = Subscriber::begin(client, initial("p", "t")).await.unwrap();
    app.next().await.unwrap();
    app.say(initial("p", "t")).await;
    let end = app.next().await.unwrap_err();
    assert_eq!(
        (end.code(), end.message()),
        (Code::Unknown, "duplicate initial request received")
    );
    pubsub
        .changes()
        .wait_for(|lists| lists.all().next().is_none())
        .await
        .unwrap();
}
