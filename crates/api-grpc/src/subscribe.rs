//! Subscriptions that an app holds open: events go out as they come, the app's answers come in between.
//!
//! The answer's body is the subscription: it is asked for the next piece when the client can take one, waits for an event or
//! for a reply of the app, and ends the subscription when it is dropped. Nothing is queued and no task is spawned.
//!
//! COMPAT(pkg/api/grpc/subscribe.go, pkg/runtime/pubsub/streamer): order, texts, and that refusals have no code of their own.

use crate::error::{Failure, GRPC, Status, code};
use crate::public::Blocks;
use crate::unary::Inbound;
use bytes::Bytes;
use futures::stream;
use http::Response;
use http::header::CONTENT_TYPE;
use http_body::{Body as HttpBody, Frame};
use outrigger_channel::app::Outcome;
use outrigger_channel::app::grpc::{outcome, topic_event};
use outrigger_channel::body::{Body, Error};
use outrigger_channel::wire::{self, Frames};
use outrigger_daemon::log::Log;
use outrigger_proto::dapr::runtime::v1 as proto;
use outrigger_runtime::pubsub::stream::{Event, Stream, Subscribe};
use prost::Message;
use proto::subscribe_topic_events_request_alpha1::SubscribeTopicEventsRequestType as Asked;
use proto::subscribe_topic_events_response_alpha1::SubscribeTopicEventsResponseType as Told;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A subscription in progress.
struct Session {
    stream: Stream,
    frames: Frames<Body>,
    limit: usize,
    log: Log,
    progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Begun,
    Running,
    Ended,
}

/// `SubscribeTopicEventsAlpha1`. On `Ok` the broker has accepted the subscription.
pub(crate) async fn subscribe(
    blocks: &Blocks,
    inbound: Inbound,
    log: &Log,
) -> Result<Response<Body>, Failure> {
    let Inbound { body, limit, .. } = inbound;
    let mut frames = Frames::new(body, limit);
    let first = tokio::select! {
        first = frames.message() => first?,
        () = blocks.drain.watch().draining() => return Err(refused("api server closed").into()),
    };
    let first = first.ok_or_else(|| refused("initial request is required"))?;
    let initial = match decode(first)? {
        Some(Asked::InitialRequest(initial)) => initial,
        Some(Asked::EventProcessed(_)) | None => return Err(refused("initial request is required").into()),
    };
    if initial.pubsub_name.is_empty() {
        return Err(refused("pubsubName is required").into());
    }
    if initial.topic.is_empty() {
        return Err(refused("topic is required").into());
    }
    let subscribe = Subscribe {
        pubsub: initial.pubsub_name,
        topic: initial.topic,
        metadata: initial.metadata.into_iter().collect(),
        dead_letter_topic: initial.dead_letter_topic.unwrap_or_default(),
    };
    let stream = blocks.pubsub.stream(subscribe).await?;
    let session = Session {
        stream,
        frames,
        limit,
        log: log.clone(),
        progress: Progress::Begun,
    };
    let pieces = stream::unfold(session, |mut session| async {
        let frame = session.next().await?;
        Some((frame, session))
    });
    let mut response = Response::new(Body::stream(Pieces::new(pieces)));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    Ok(response)
}

impl Session {
    /// The next piece of the answer; `None` after the last.
    async fn next(&mut self) -> Option<Frame<Bytes>> {
        match self.progress {
            Progress::Ended => return None,
            Progress::Begun => {
                self.progress = Progress::Running;
                let told = Told::InitialResponse(proto::SubscribeTopicEventsResponseInitialAlpha1 {});
                return Some(Frame::data(encode(told)));
            }
            Progress::Running => {}
        }
        let status = loop {
            tokio::select! {
                event = self.stream.events.next() => match event {
                    Some(event) => if let Some(message) = self.message(&event) {
                        return Some(Frame::data(message));
                    },
                    None => break Err(refused("stream closed")),
                },
                reply = self.frames.message() => match reply {
                    // The client has said all it will: it unsubscribes.
                    Ok(None) => break Ok(()),
                    Ok(Some(reply)) => if let Err(status) = self.settle(reply) {
                        break Err(status);
                    },
                    Err(error) => break Err(error.into()),
                },
            }
        };
        self.progress = Progress::Ended;
        Some(Frame::trailers(status.map_or_else(
            |status| status.trailers(),
            |()| wire::grpc_trailers(0, ""),
        )))
    }

    /// An event as the app gets it. One that cannot be sent stays with the broker.
    fn message(&self, event: &Event) -> Option<Bytes> {
        let told = match topic_event(&event.event) {
            Ok(message) => encode(Told::EventMessage(message)),
            Err(error) => {
                self.keep(event, &error);
                return None;
            }
        };
        let size = told.len().saturating_sub(wire::PREFIX);
        if size > self.limit {
            self.keep(
                event,
                &format_args!(
                    "grpc: trying to send message larger than max ({size} vs. {})",
                    self.limit
                ),
            );
            return None;
        }
        Some(told)
    }

    fn keep(&self, event: &Event, error: &dyn std::fmt::Display) {
        self.log.error(format_args!(
            "cannot send event {} to the stream that subscribed to it: {error}",
            event.id
        ));
        self.stream.replies.settle(&event.id, Outcome::Retry);
    }

    fn settle(&self, reply: Bytes) -> Result<(), Status> {
        match decode(reply)? {
            Some(Asked::EventProcessed(processed)) => {
                let status = processed.status.unwrap_or_default().status;
                let outcome = outcome(status).unwrap_or_else(|error| {
                    self.log.warn(error);
                    Outcome::Retry
                });
                self.stream.replies.settle(&processed.id, outcome);
                Ok(())
            }
            Some(Asked::InitialRequest(_)) | None => Err(refused("duplicate initial request received")),
        }
    }
}

/// A stream of frames as a body.
pub(crate) struct Pieces<S>(Pin<Box<S>>);

impl<S> Pieces<S> {
    pub(crate) fn new(pieces: S) -> Self {
        Self(Box::pin(pieces))
    }
}

impl<S: stream::Stream<Item = Frame<Bytes>>> HttpBody for Pieces<S> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Ready(ready!(self.get_mut().0.as_mut().poll_next(cx)).map(Ok))
    }
}

fn decode(message: Bytes) -> Result<Option<Asked>, Status> {
    let request = proto::SubscribeTopicEventsRequestAlpha1::decode(message).map_err(wire::Error::from)?;
    Ok(request.subscribe_topic_events_request_type)
}

fn encode(told: Told) -> Bytes {
    wire::frame(&proto::SubscribeTopicEventsResponseAlpha1 {
        subscribe_topic_events_response_type: Some(told),
    })
}

fn refused(text: &str) -> Status {
    Status::new(code::UNKNOWN, text)
}
