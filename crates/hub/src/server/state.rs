//! `State`: keys and values.
//!
//! A key that was not written lately is read from the engine on the thread that asks: a few microseconds from the
//! page cache. Listings go to the blocking pool.

use super::{KEY, check_name, closing, status, wire};
use crate::broker::Broker;
use crate::clock;
use crate::commit::{Condition, Failure, Put, Reason, Step};
use bytes::{BufMut, Bytes, BytesMut};
use outrigger_proto::hub::v1;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

const PAGE: usize = 1_000;

pub(super) struct Service(pub(super) Arc<Broker>);

#[tonic::async_trait]
impl v1::state_server::State for Service {
    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        let request = request.into_inner();
        check_name("space", &request.space).map_err(|failure| status(&failure))?;
        let now = clock::wall();
        let mut found = Vec::with_capacity(request.keys.len());
        for key in &request.keys {
            let key = full_key(&request.space, key).map_err(|failure| status(&failure))?;
            let item = self
                .0
                .parts()
                .kv
                .get(&key, now)
                .map_err(|error| Status::internal(error.to_string()))?;
            found.push(v1::Found {
                item: item.map(|item| v1::Item {
                    value: item.value,
                    etag: item.version.to_string(),
                    expires_ms: item.expires,
                    content_type: item.content_type,
                }),
            });
        }
        Ok(Response::new(v1::GetResponse { found }))
    }

    async fn write(&self, request: Request<v1::WriteRequest>) -> Result<Response<v1::WriteResponse>, Status> {
        let transactions = request.into_inner().transactions;
        let mut failures = Vec::with_capacity(transactions.len());
        let mut good = Vec::with_capacity(transactions.len());
        for transaction in transactions {
            match decode(transaction) {
                Ok(steps) => {
                    good.push(steps);
                    failures.push(None);
                }
                Err(failure) => failures.push(Some(failure)),
            }
        }
        let mut results = match good.is_empty() {
            true => Vec::new(),
            false => {
                let commit = &self.0.parts().commit;
                commit.write(good).await.map_err(|failure| status(&failure))?
            }
        }
        .into_iter();
        let merged = failures.into_iter().map(|failure| match failure {
            Some(failure) => Err(failure),
            None => results
                .next()
                .unwrap_or_else(|| Err(Failure::new(Reason::Closing, "the hub ended before it answered"))),
        });
        let results = merged
            .map(|result| match result {
                Ok(wrote) => v1::WriteResult {
                    etag: wrote.version.to_string(),
                    deleted: wrote.deleted,
                    failure: None,
                },
                Err(failure) => v1::WriteResult {
                    etag: String::new(),
                    deleted: 0,
                    failure: Some(wire(failure)),
                },
            })
            .collect();
        Ok(Response::new(v1::WriteResponse { results }))
    }

    async fn keys(&self, request: Request<v1::KeysRequest>) -> Result<Response<v1::KeysResponse>, Status> {
        let request = request.into_inner();
        check_name("space", &request.space).map_err(|failure| status(&failure))?;
        let skip = request.space.len() + 1;
        let prefix = full_key(&request.space, &request.prefix).map_err(|failure| status(&failure))?;
        let after = match request.after.is_empty() {
            true => None,
            false => Some(full_key(&request.space, &request.after).map_err(|failure| status(&failure))?),
        };
        let limit = match usize::try_from(request.limit).unwrap_or(PAGE) {
            0 => PAGE,
            limit => limit.min(PAGE),
        };
        let kv = self.0.parts().kv.clone();
        let list = move || kv.keys(&prefix, after.as_deref(), limit, clock::wall());
        let listed = tokio::task::spawn_blocking(list)
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        let (keys, more) = listed.map_err(|error| Status::internal(error.to_string()))?;
        let keys = keys
            .iter()
            // Keys came in as text.
            .filter_map(|key| std::str::from_utf8(key.get(skip..)?).ok().map(str::to_owned))
            .collect();
        Ok(Response::new(v1::KeysResponse { keys, more }))
    }

    type ChangesStream = ReceiverStream<Result<v1::ChangesResponse, Status>>;

    async fn changes(
        &self,
        request: Request<v1::ChangesRequest>,
    ) -> Result<Response<Self::ChangesStream>, Status> {
        let space = request.into_inner().space;
        check_name("space", &space).map_err(|failure| status(&failure))?;
        let mut changes = self.0.parts().kv.watch(&space);
        let watch = self.0.parts().doors.watch();
        let (responses, stream) = mpsc::channel(1);
        let tell = async move {
            changes.mark_changed();
            let mut draining = std::pin::pin!(watch.draining());
            loop {
                let told = async {
                    changes.changed().await.ok()?;
                    responses.send(Ok(v1::ChangesResponse {})).await.ok()
                };
                tokio::select! {
                    told = told => if told.is_none() { return },
                    () = responses.closed() => return,
                    () = &mut draining => {
                        drop(responses.try_send(Err(closing())));
                        return;
                    }
                }
            }
        };
        self.0.parts().spawner.spawn("changes", tell);
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

fn decode(transaction: v1::Transaction) -> Result<Vec<Step>, Failure> {
    check_name("space", &transaction.space)?;
    let space = transaction.space;
    let operations = transaction.operations.into_iter();
    operations
        .map(|operation| match operation.kind {
            Some(v1::operation::Kind::Set(set)) => Ok(Step {
                key: written_key(&space, &set.key)?,
                condition: condition(set.condition)?,
                put: Some(Put {
                    value: set.value,
                    content_type: set.content_type,
                    ttl: set.ttl_ms,
                }),
            }),
            Some(v1::operation::Kind::Delete(delete)) => Ok(Step {
                key: written_key(&space, &delete.key)?,
                condition: condition(delete.condition)?,
                put: None,
            }),
            None => Err(Failure::new(
                Reason::Invalid,
                "an operation must be set or delete",
            )),
        })
        .collect()
}

fn condition(condition: Option<v1::Condition>) -> Result<Condition, Failure> {
    match condition.and_then(|condition| condition.kind) {
        None | Some(v1::condition::Kind::Absent(false)) => Ok(Condition::None),
        Some(v1::condition::Kind::Absent(true)) => Ok(Condition::Absent),
        Some(v1::condition::Kind::Etag(etag)) => match etag.parse() {
            // Only what this hub would write: no sign, no leading zeros.
            Ok(version) if u64::to_string(&version) == etag => Ok(Condition::Version(version)),
            _ => Err(Failure::new(
                Reason::InvalidEtag,
                format!("etag {etag:?} is none of this store: it must be a whole number"),
            )),
        },
    }
}

fn written_key(space: &str, key: &str) -> Result<Bytes, Failure> {
    match key.is_empty() {
        true => Err(Failure::new(Reason::Invalid, "the key is empty")),
        false => full_key(space, key),
    }
}

/// Space, NUL, key: a space has no NUL in it, so no key of one can look like one of another.
fn full_key(space: &str, key: &str) -> Result<Bytes, Failure> {
    if key.len() > KEY {
        return Err(Failure::new(
            Reason::Limit,
            format!("the key is longer than {KEY} bytes"),
        ));
    }
    let mut full = BytesMut::with_capacity(space.len() + 1 + key.len());
    full.put_slice(space.as_bytes());
    full.put_u8(0);
    full.put_slice(key.as_bytes());
    Ok(full.freeze())
}
