//! The members of a cluster: one channel to each, of which one is used until it fails.
//!
//! A request has a stated time. Within it, what certainly did not reach a server is sent again, to the next member; so is
//! what only reads.

use crate::config::{Config, Endpoint};
use crate::failure::{is_passing, is_unsent, wants_login};
use crate::wire::{AUTHENTICATE, Authenticate, Authenticated};
use http::uri::PathAndQuery;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_daemon::{backoff, tls};
use prost::Message;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint as Target};
use tonic::{Code, Status};

/// For a request, however often it is sent. COMPAT(components-contrib state/etcd): five seconds.
const ANSWER: Duration = Duration::from_secs(5);
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// After which an idle connection is asked whether it is still there, and how long its answer may take.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3));

pub(crate) struct Client {
    members: Vec<Member>,
    /// Which member is used.
    current: AtomicUsize,
    login: Option<Login>,
}

struct Member {
    address: String,
    channel: Channel,
}

struct Login {
    name: String,
    password: String,
    /// `None` until it is needed.
    token: Mutex<Option<MetadataValue<Ascii>>>,
}

/// Whether a request may be sent again when it is not known what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    Yes,
    /// Only if it surely has not reached a server.
    IfUnsent,
}

impl Client {
    /// Connects nothing yet.
    ///
    /// # Errors
    /// `Invalid` for metadata.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let endpoints = config.endpoints()?;
        let tls = config.tls(endpoints.iter().any(|endpoint| endpoint.secure))?;
        // So that there is time left for the others.
        let connecting = ANSWER / u32::try_from(endpoints.len()).unwrap_or(u32::MAX).clamp(1, 5);
        let members = endpoints
            .into_iter()
            .map(|Endpoint { address, secure }| {
                let scheme = if secure { "https" } else { "http" };
                let target = Target::from_shared(format!("{scheme}://{address}")).map_err(|error| {
                    Error::caused(
                        Kind::Invalid,
                        &format!("metadata endpoints: {address} is no address"),
                        error,
                    )
                })?;
                let channel = target
                    .connect_timeout(connecting)
                    .http2_keep_alive_interval(KEEPALIVE.0)
                    .keep_alive_timeout(KEEPALIVE.1)
                    .connect_with_connector_lazy(tls::connector(tls.clone()));
                Ok(Member { address, channel })
            })
            .collect::<Result<_>>()?;
        let login = (!config.username.is_empty()).then(|| Login {
            name: config.username.clone(),
            password: config.password.0.clone(),
            token: Mutex::default(),
        });
        Ok(Self {
            members,
            current: AtomicUsize::new(0),
            login,
        })
    }

    /// `[host:port host:port]`.
    pub(crate) fn addresses(&self) -> impl fmt::Display {
        let addresses: Vec<&str> = self
            .members
            .iter()
            .map(|member| member.address.as_str())
            .collect();
        format!("[{}]", addresses.join(" "))
    }

    /// # Errors
    /// The server's, or that of a connection that could not be had in time.
    pub(crate) async fn call<Q, A>(
        &self,
        method: &'static str,
        request: &Q,
        repeat: Repeat,
    ) -> Result<A, Status>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let deadline = Instant::now() + ANSWER;
        let late = |last: Option<Status>| {
            last.unwrap_or_else(|| Status::deadline_exceeded(format!("no answer within {ANSWER:?}")))
        };
        let mut failures = 0_usize;
        let mut logins = 0;
        let mut last = None;
        loop {
            let at = self.current.load(Ordering::Relaxed);
            let Ok(answer) = timeout_at(deadline, self.attempt(at, method, request)).await else {
                self.leave(at);
                return Err(late(last));
            };
            let status = match answer {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            // A server that wants a login has done nothing else.
            if let Some(login) = self.login.as_ref().filter(|_| wants_login(&status)) {
                logins += 1;
                if logins <= 2 {
                    login.forget();
                    continue;
                }
            }
            if !is_passing(&status) {
                return Err(status);
            }
            self.leave(at);
            if repeat == Repeat::IfUnsent && !is_unsent(&status) {
                return Err(status);
            }
            failures += 1;
            // All of them in a row, then a pause.
            if failures.is_multiple_of(self.members.len()) {
                let pause = pause(failures / self.members.len());
                if Instant::now() + pause >= deadline {
                    return Err(status);
                }
                sleep(pause).await;
            }
            last = Some(status);
        }
    }

    async fn attempt<Q, A>(&self, at: usize, method: &'static str, request: &Q) -> Result<A, Status>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let Some(member) = self.members.get(at).or(self.members.first()) else {
            return Err(Status::internal("no endpoints"));
        };
        let mut request = tonic::Request::new(request.clone());
        if let Some(login) = &self.login
            && let Some(token) = login.token(member).await?
        {
            request.metadata_mut().insert("token", token);
        }
        member.call(method, request).await
    }

    /// The next one is used from now on, unless somebody has changed that already.
    fn leave(&self, at: usize) {
        let next = (at + 1) % self.members.len().max(1);
        self.current
            .compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed)
            .ok();
    }
}

impl Member {
    async fn call<Q, A>(&self, method: &'static str, request: tonic::Request<Q>) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        grpc.ready()
            .await
            .map_err(|error| Status::from_error(Box::new(error)))?;
        let codec = tonic_prost::ProstCodec::<Q, A>::default();
        let answer = grpc
            .unary(request, PathAndQuery::from_static(method), codec)
            .await?;
        Ok(answer.into_inner())
    }
}

impl Login {
    /// `None` if the cluster has no authentication enabled.
    async fn token(&self, member: &Member) -> Result<Option<MetadataValue<Ascii>>, Status> {
        let known = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.is_some() {
            return Ok(known);
        }
        let request = Authenticate {
            name: self.name.clone(),
            password: self.password.clone(),
        };
        let token = match member.call(AUTHENTICATE, tonic::Request::new(request)).await {
            Ok(Authenticated { token }) => token,
            // COMPAT(go.etcd.io/etcd client/v3): a login that nobody asks for is no mistake.
            Err(status)
                if status.code() == Code::FailedPrecondition
                    && status.message().contains("authentication is not enabled") =>
            {
                return Ok(None);
            }
            Err(status) => return Err(status),
        };
        let mut token: MetadataValue<Ascii> = token
            .parse()
            .map_err(|_| Status::internal("the server's token is no text"))?;
        token.set_sensitive(true);
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        Ok(Some(token))
    }

    fn forget(&self) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// After so many rounds in vain: doubling, and never quite the same.
fn pause(rounds: usize) -> Duration {
    let failures = u32::try_from(rounds.saturating_sub(1)).unwrap_or(u32::MAX);
    backoff::after(SHORTEST_PAUSE, LONGEST_PAUSE, failures)
}
