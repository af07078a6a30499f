//! The connection to the hub. It connects when needed and connects again when the hub was replaced; requests
//! that met the gap are repeated for a stated time.

use crate::failure;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata;
use outrigger_component::options::{Opt, opt};
use outrigger_proto::hub::v1;
use outrigger_proto::hub::v1::names_client::NamesClient;
use outrigger_proto::hub::v1::state_client::StateClient;
use outrigger_proto::hub::v1::topics_client::TopicsClient;
use serde::Deserialize;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// Longer than any disk that works needs.
const ANSWER: Duration = Duration::from_secs(30);

/// What can be written for all components of the hub.
pub(crate) const HUB: &[Opt] = &[
    opt(
        "socket",
        "the hub the sidecar was started with",
        "path of the hub's socket",
    ),
    opt(
        "waitForHub",
        "5s",
        "how long a request waits while no hub answers",
    ),
];

/// What can be written for those that keep something under keys.
pub(crate) const SPACE: &[Opt] = &[opt(
    "space",
    "the component's name",
    "components of one space share what they keep",
)];

/// Metadata that all components of the hub have.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Config {
    /// The hub's socket, if not the one this sidecar was started with.
    pub(crate) socket: Option<PathBuf>,
    /// How long a request waits for a hub that does not answer. Go syntax or seconds; default 5s.
    #[serde(deserialize_with = "metadata::duration")]
    pub(crate) wait_for_hub: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            socket: None,
            wait_for_hub: Duration::from_secs(5),
        }
    }
}

impl Config {
    pub(crate) fn of(socket: Option<PathBuf>, wait: Option<Duration>) -> Self {
        let default = Self::default();
        Self {
            socket,
            wait_for_hub: wait.unwrap_or(default.wait_for_hub),
        }
    }
}

/// Pauses between attempts: 20 ms, doubling up to a second.
#[derive(Debug, Default)]
pub(crate) struct Backoff(u32);

impl Backoff {
    pub(crate) fn next(&mut self) -> Duration {
        let pause = Duration::from_millis(20 << self.0.min(6)).min(Duration::from_secs(1));
        self.0 = self.0.saturating_add(1);
        pause
    }
}

/// What a failed call means for those whose request was in it.
pub(crate) enum Verdict {
    /// Send it again.
    Again,
    Give(Error),
}

#[derive(Clone)]
pub(crate) struct Link {
    channel: Channel,
    wait: Duration,
}

impl Link {
    /// Finds the socket and waits until the hub answers.
    pub(crate) async fn connect(config: &Config, socket: Option<&Path>, what: &str) -> Result<Self> {
        let Some(socket) = config.socket.as_deref().or(socket) else {
            return Err(Error::invalid(format!(
                "{what} keeps its data in the hub, and this sidecar was started without one: start the app with \
                 `outrigger run`, which starts a hub, or start `outrigger hub` and name its socket in the component's \
                 metadata `socket`"
            )));
        };
        let path = socket
            .to_str()
            .ok_or_else(|| Error::invalid(format!("the hub's socket {} is not UTF-8", socket.display())))?;
        let endpoint = Endpoint::from_shared(format!("unix:{path}"))
            .map_err(|error| Error::caused(Kind::Invalid, &format!("the hub's socket {path}"), error))?;
        let link = Self {
            channel: endpoint.connect_lazy(),
            wait: config.wait_for_hub,
        };
        let answer = link.ping().await;
        answer.map_err(|error| {
            let what = format!(
                "no hub answers at {path}: {error}; start one with `outrigger run` or `outrigger hub`"
            );
            Error {
                message: what,
                ..error
            }
        })?;
        Ok(link)
    }

    pub(crate) fn topics(&self) -> TopicsClient<Channel> {
        TopicsClient::new(self.channel.clone())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX)
    }

    pub(crate) fn state(&self) -> StateClient<Channel> {
        StateClient::new(self.channel.clone())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX)
    }

    pub(crate) fn names(&self) -> NamesClient<Channel> {
        NamesClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    /// Asks the hub something that changes nothing.
    pub(crate) async fn ping(&self) -> Result<()> {
        self.call(true, async || {
            let nobody = v1::ResolveRequest::default();
            self.names().resolve(nobody).await.map(drop)
        })
        .await
    }

    /// Calls until the hub answers, for at most the stated time. `repeatable`: doing it twice does no harm.
    pub(crate) async fn call<T, F>(&self, repeatable: bool, call: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut patience = self.patience();
        loop {
            match answered(call()).await {
                Ok(answer) => return Ok(answer),
                Err(status) => match patience.judge(&status, repeatable).await {
                    Verdict::Again => {}
                    Verdict::Give(error) => return Err(error),
                },
            }
        }
    }

    pub(crate) fn patience(&self) -> Patience {
        Patience {
            until: Instant::now() + self.wait,
            backoff: Backoff::default(),
        }
    }
}

/// A hub that has a request and does not answer is not waited for without end.
pub(crate) async fn answered<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = |_| {
        Err(Status::deadline_exceeded(format!(
            "it does not answer within {ANSWER:?}"
        )))
    };
    tokio::time::timeout(ANSWER, call).await.unwrap_or_else(late)
}

/// Decides about one request, however often it is sent.
pub(crate) struct Patience {
    until: Instant,
    backoff: Backoff,
}

impl Patience {
    /// Waits before answering [`Verdict::Again`].
    pub(crate) async fn judge(&mut self, status: &Status, repeatable: bool) -> Verdict {
        let pause = self.backoff.next();
        let hope = failure::is_gone(status) && (repeatable || failure::is_unsent(status));
        if !hope || Instant::now() + pause >= self.until {
            return Verdict::Give(failure::failed(status));
        }
        sleep(pause).await;
        Verdict::Again
    }
}
