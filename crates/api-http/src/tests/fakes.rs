//! One stand-in for every seam. It notes what it was asked.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use outrigger_channel::app::{AppChannel, Outcome, Subscription as Declared, TopicEvent};
use outrigger_channel::body::Body;
use outrigger_channel::call::{Call, Reply, Status};
use outrigger_channel::error::Error as ChannelError;
use outrigger_channel::peer::PeerChannel;
use outrigger_component::Component;
use outrigger_component::binding::{Failed as Uncalled, Invoke, Output, OutputBinding};
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{self, Entry, Failed, Outgoing, PubSub, Subscribe, Subscription};
use outrigger_component::resolver::{Endpoint, NameResolver, Target};
use outrigger_component::secret::{self, Secret, SecretStore};
use outrigger_component::state::{self, Delete, Get, Item, Set, StateStore, Write};
use outrigger_daemon::trace::Context;
use outrigger_testkit::stores::Settings;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
pub(super) struct Fake {
    journal: Arc<Mutex<Vec<String>>>,
    values: Arc<Mutex<BTreeMap<String, Set>>>,
    pub(super) settings: Settings,
}

impl Fake {
    pub(super) fn journal(&self) -> Vec<String> {
        std::mem::take(&mut *self.journal.lock().unwrap())
    }

    fn note(&self, what: String) {
        self.journal.lock().unwrap().push(what);
    }
}

fn shown(metadata: &Metadata) -> String {
    metadata
        .iter()
        .map(|(name, value)| format!(" {name}={value}"))
        .collect()
}

#[async_trait::async_trait]
impl Component for Fake {}

#[async_trait::async_trait]
impl StateStore for Fake {
    fn features(&self) -> state::Features {
        state::Features {
            etag: true,
            transactional: true,
            ..state::Features::default()
        }
    }

    async fn get(&self, get: &Get) -> Result<Option<Item>> {
        self.note(format!(
            "get {} {:?}{}",
            get.key,
            get.consistency,
            shown(&get.metadata)
        ));
        if get.key.ends_with("broken") {
            return Err(Error::internal("store is down"));
        }
        Ok(self.values.lock().unwrap().get(&get.key).map(|set| Item {
            value: set.value.clone(),
            etag: Some("1".to_owned()),
            content_type: None,
            metadata: [("ttlExpireTime", "2030-01-01T00:00:00Z")].into_iter().collect(),
        }))
    }

    async fn set(&self, set: Set) -> Result<()> {
        let value = String::from_utf8_lossy(&set.value).into_owned();
        self.note(format!(
            "set {}={value} {:?} {:?}{}",
            set.key,
            set.etag,
            set.concurrency,
            shown(&set.metadata)
        ));
        if set.etag.as_deref() == Some("9") {
            return Err(Error::new(Kind::EtagMismatch, "tag 1 is stored"));
        }
        self.values.lock().unwrap().insert(set.key.clone(), set);
        Ok(())
    }

    async fn delete(&self, delete: Delete) -> Result<()> {
        self.note(format!(
            "delete {} {:?}{}",
            delete.key,
            delete.etag,
            shown(&delete.metadata)
        ));
        self.values.lock().unwrap().remove(&delete.key);
        Ok(())
    }

    async fn transact(&self, writes: Vec<Write>, metadata: &Metadata) -> Result<()> {
        let writes: String = writes
            .iter()
            .map(|write| match write {
                Write::Set(set) => format!(" +{}={}", set.key, String::from_utf8_lossy(&set.value)),
                Write::Delete(delete) => format!(" -{}", delete.key),
            })
            .collect();
        self.note(format!("transact{writes}{}", shown(metadata)));
        Ok(())
    }
}

#[async_trait::async_trait]
impl PubSub for Fake {
    fn features(&self) -> pubsub::Features {
        pubsub::Features {
            bulk: true,
            ..pubsub::Features::default()
        }
    }

    async fn publish(&self, message: Outgoing) -> Result<()> {
        let data = String::from_utf8_lossy(&message.data).into_owned();
        self.note(format!(
            "publish {:?} {data}{}",
            message.topic,
            shown(&message.metadata)
        ));
        Ok(())
    }

    async fn publish_bulk(
        &self,
        topic: &str,
        entries: Vec<Entry>,
        _metadata: &Metadata,
    ) -> std::result::Result<Vec<Failed>, Vec<Entry>> {
        let ids: String = entries.iter().map(|entry| format!(" {}", entry.id)).collect();
        self.note(format!("publish bulk {topic:?}{ids}"));
        let failed = entries.into_iter().filter(|entry| entry.id == "bad");
        Ok(failed
            .map(|entry| Failed {
                id: entry.id,
                error: Error::internal("broker is full"),
            })
            .collect())
    }

    async fn subscribe(&self, _subscribe: Subscribe) -> Result<Subscription> {
        Err(Error::unsupported("subscribe"))
    }
}

#[async_trait::async_trait]
impl SecretStore for Fake {
    fn features(&self) -> secret::Features {
        secret::Features::default()
    }

    async fn get(&self, name: &str, metadata: &Metadata) -> Result<Secret> {
        self.note(format!("secret {name}{}", shown(metadata)));
        match name {
            "none" => Ok(Secret::default()),
            "broken" => Err(Error::internal("sealed")),
            name => Ok(Secret([(name.to_owned(), "hush".to_owned())].into())),
        }
    }

    async fn all(&self, _metadata: &Metadata) -> Result<BTreeMap<String, Secret>> {
        Ok([(
            "a".to_owned(),
            Secret([("a".to_owned(), "hush".to_owned())].into()),
        )]
        .into())
    }
}

#[async_trait::async_trait]
impl NameResolver for Fake {
    async fn resolve(&self, target: &Target) -> Result<Vec<Endpoint>> {
        Err(Error::new(
            Kind::NotFound,
            format!("couldn't find service: {}", target.app_id),
        ))
    }
}

#[async_trait::async_trait]
impl PeerChannel for Fake {
    async fn reach(&self, _at: &Endpoint) -> std::result::Result<(), ChannelError> {
        Err(ChannelError::Unavailable("no peers here".to_owned()))
    }

    async fn invoke(
        &self,
        _at: &Endpoint,
        _app: &Target,
        _call: Call,
        _trace: Option<&Context>,
    ) -> std::result::Result<Reply, ChannelError> {
        Err(ChannelError::Unavailable("no peers here".to_owned()))
    }

    async fn proxy(
        &self,
        _at: &Endpoint,
        _request: Request<Body>,
    ) -> std::result::Result<Response<Body>, ChannelError> {
        Err(ChannelError::Unavailable("no peers here".to_owned()))
    }

    fn forget(&self, _at: &Endpoint) {}
}

#[async_trait::async_trait]
impl AppChannel for Fake {
    async fn subscriptions(&self) -> std::result::Result<Vec<Declared>, ChannelError> {
        Ok(Vec::new())
    }

    /// `echo` gives back what it got, names of header fields in `x-names`; a number is a status; `down` is no answer.
    async fn invoke(&self, call: Call) -> std::result::Result<Reply, ChannelError> {
        self.note(format!("{} {}?{}", call.verb, call.method, call.query));
        let method = call.method.trim_start_matches('/');
        if method == "down" {
            return Err(ChannelError::Unavailable("connection refused".to_owned()));
        }
        let mut reply = Reply::http(200, Body::Empty);
        if let Ok(status) = method.parse() {
            reply.status = Status::Http(status);
            reply.body = Body::from(Bytes::from_static(b"as you wish"));
            return Ok(reply);
        }
        if method == "grpc" {
            reply.status = Status::Grpc {
                code: 5,
                message: "no such thing".to_owned(),
                details: Vec::new(),
            };
            return Ok(reply);
        }
        reply.headers = echoed(&call.headers);
        reply.body = match call.body {
            // Read here so that a failure becomes the call's.
            body if body.length().is_some() => body
                .collect(usize::MAX)
                .await
                .map_err(|error| ChannelError::Invalid(error.to_string()))?
                .into(),
            streamed => streamed,
        };
        Ok(reply)
    }

    async fn deliver(&self, _event: TopicEvent) -> std::result::Result<Outcome, ChannelError> {
        Ok(Outcome::Success)
    }

    async fn proxy(&self, _request: Request<Body>) -> std::result::Result<Response<Body>, ChannelError> {
        Err(ChannelError::Unimplemented("proxy"))
    }

    async fn healthy(&self) -> std::result::Result<(), ChannelError> {
        Ok(())
    }
}

fn echoed(given: &HeaderMap) -> HeaderMap {
    let mut names: Vec<&str> = given.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    let mut headers = HeaderMap::new();
    headers.insert("x-names", HeaderValue::try_from(names.join(" ")).unwrap());
    headers.insert("keep-alive", HeaderValue::from_static("timeout=5"));
    if let Some(kind) = given.get("content-type") {
        headers.insert("content-type", kind.clone());
    }
    headers
}

/// Says back what it was told; fails for `broken`, says nothing for `delete`.
#[async_trait::async_trait]
impl OutputBinding for Fake {
    fn operations(&self) -> &[&'static str] {
        &["create", "delete"]
    }

    async fn invoke(&self, invoke: Invoke) -> Result<Option<Output>, Uncalled> {
        let data = String::from_utf8_lossy(&invoke.data).into_owned();
        self.note(format!("{} {data}{}", invoke.operation, shown(&invoke.metadata)));
        let metadata = [("statusCode", "404")].into_iter().collect();
        match data.as_str() {
            "\"broken\"" => Err(Uncalled {
                error: Error::internal("it is broken"),
                metadata,
            }),
            _ if invoke.operation == "delete" => Ok(None),
            _ => Ok(Some(Output {
                data: invoke.data,
                metadata,
            })),
        }
    }
}
