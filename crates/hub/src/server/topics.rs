//! `Topics`: publish and subscribe.
//!
//! Back-pressure of a subscription: the hub sends at most the member's window; settlements that the topic's task
//! cannot take yet are left in the stream, whose flow control then stops the client.

use super::{check_name, closing, status, wire};
use crate::broker::{Broker, Join, Joined};
use crate::commit::{Failure, Outgoing, Reason};
use crate::dispatch::Command;
use crate::group::Deliver;
use outrigger_proto::hub::v1;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Deliveries of one response, and their bytes (one message always fits).
const RESPONSE_DELIVERIES: usize = 64;
const RESPONSE_BYTES: usize = 256 << 10;

pub(super) struct Service(pub(super) Arc<Broker>);

type Responses = mpsc::Sender<Result<v1::SubscribeResponse, Status>>;

#[tonic::async_trait]
impl v1::topics_server::Topics for Service {
    async fn publish(
        &self,
        request: Request<v1::PublishRequest>,
    ) -> Result<Response<v1::PublishResponse>, Status> {
        let messages = request.into_inner().messages;
        // One that is wrong by itself has its own result, and the others go on.
        let checked: Vec<Result<(), Failure>> = messages
            .iter()
            .map(|message| check_name("topic", &message.topic))
            .collect();
        let good = messages
            .into_iter()
            .zip(&checked)
            .filter(|(_, checked)| checked.is_ok());
        let outgoing: Vec<Outgoing> = good.map(|(message, _)| decode(message)).collect();
        let mut results = match outgoing.is_empty() {
            true => Vec::new(),
            false => {
                let commit = &self.0.parts().commit;
                commit
                    .publish(outgoing)
                    .await
                    .map_err(|failure| status(&failure))?
            }
        }
        .into_iter();
        let merged = checked.into_iter().map(|checked| match checked {
            Ok(()) => results.next().unwrap_or_else(|| Err(missing())),
            Err(failure) => Err(failure),
        });
        let results = merged
            .map(|result| match result {
                Ok(offset) => v1::PublishResult {
                    offset,
                    failure: None,
                },
                Err(failure) => v1::PublishResult {
                    offset: 0,
                    failure: Some(wire(failure)),
                },
            })
            .collect();
        Ok(Response::new(v1::PublishResponse { results }))
    }

    type SubscribeStream = ReceiverStream<Result<v1::SubscribeResponse, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<v1::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|request| request.kind);
        let Some(v1::subscribe_request::Kind::Open(open)) = first else {
            return Err(Status::invalid_argument(
                "the first request of a subscription must be open",
            ));
        };
        check_name("topic", &open.topic).map_err(|failure| status(&failure))?;
        check_name("group", &open.group).map_err(|failure| status(&failure))?;
        let earliest = open.start() == v1::Start::Earliest;
        let join = Join {
            topic: open.topic,
            group: open.group,
            earliest,
            window: usize::try_from(open.window).unwrap_or(usize::MAX),
            timeout: open.settle_timeout_ms,
        };
        let joined = self.0.join(join).await.map_err(|failure| status(&failure))?;
        let (responses, stream) = mpsc::channel(2);
        let opened = v1::Opened {
            next_offset: joined.next,
        };
        let opened = v1::subscribe_response::Kind::Opened(opened);
        // The channel is new: it has room.
        drop(responses.try_send(Ok(v1::SubscribeResponse { kind: Some(opened) })));
        let broker = self.0.clone();
        let member = async move {
            let (group, member, commands) = (joined.group, joined.member, joined.commands.clone());
            converse(&broker, joined, requests, responses).await;
            // A task that has ended has no members left.
            drop(commands.send(Command::Leave { group, member }).await);
        };
        self.0.parts().spawner.spawn("subscription", member);
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Passes deliveries out and settlements in until either side ends, or the hub does.
async fn converse(
    broker: &Broker,
    joined: Joined,
    mut requests: Streaming<v1::SubscribeRequest>,
    responses: Responses,
) {
    let Joined {
        group,
        member,
        commands,
        mut deliveries,
        ..
    } = joined;
    let watch = broker.parts().doors.watch();
    let mut draining = std::pin::pin!(watch.draining());
    let mut batch = Vec::with_capacity(RESPONSE_DELIVERIES);
    let sending = async {
        // The batch outlives a cancelled turn of nothing: this future is polled until one side ends.
        while deliveries.recv_many(&mut batch, RESPONSE_DELIVERIES).await > 0 {
            let mut rest = batch.drain(..).peekable();
            while rest.peek().is_some() {
                if responses.send(Ok(encode(&mut rest))).await.is_err() {
                    return None;
                }
            }
        }
        Some(closing())
    };
    let settling = async {
        loop {
            let settle = match requests.message().await {
                Ok(Some(request)) => match request.kind {
                    Some(v1::subscribe_request::Kind::Settle(settle)) => settle,
                    _ => return Some(Status::invalid_argument("only settle may follow open")),
                },
                // The client has left.
                Ok(None) | Err(_) => return None,
            };
            let nacks = settle.nacks.into_iter().map(|nack| (nack.offset, nack.delay_ms));
            let command = Command::Settle {
                group,
                member,
                acks: settle.acks,
                nacks: nacks.collect(),
            };
            if commands.send(command).await.is_err() {
                return Some(closing());
            }
        }
    };
    let end = tokio::select! {
        end = settling => end,
        end = sending => end,
        () = &mut draining => Some(closing()),
        () = responses.closed() => None,
    };
    if let Some(status) = end {
        // A client that does not read any more learns it from the end of the connection.
        drop(responses.try_send(Err(status)));
    }
}

/// The next response: as many deliveries as fit.
fn encode(rest: &mut std::iter::Peekable<std::vec::Drain<'_, Deliver>>) -> v1::SubscribeResponse {
    let mut deliveries = Vec::new();
    let mut bytes = 0;
    while let Some(deliver) =
        rest.next_if(|next| bytes == 0 || bytes + next.message.data.len() <= RESPONSE_BYTES)
    {
        bytes += deliver.message.data.len().max(1);
        deliveries.push(v1::Delivery {
            offset: deliver.message.offset,
            data: deliver.message.data.clone(),
            metadata: deliver.message.metadata.iter().cloned().collect(),
            attempt: deliver.attempt,
            published_ms: deliver.message.published,
        });
    }
    let deliveries = v1::Deliveries { deliveries };
    v1::SubscribeResponse {
        kind: Some(v1::subscribe_response::Kind::Deliveries(deliveries)),
    }
}

fn decode(message: v1::Message) -> Outgoing {
    Outgoing {
        topic: message.topic,
        data: message.data,
        metadata: message.metadata.into_iter().collect(),
        ttl: message.ttl_ms,
    }
}

fn missing() -> Failure {
    Failure::new(Reason::Closing, "the hub ended before it answered")
}
