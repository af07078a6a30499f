//! Service invocation: from a target name to the app that answers, here or behind another sidecar.
//!
//! A body that is here already (or small enough to be waited for) can be sent again, so a call whose sidecar went away
//! is repeated; a streamed body passes through unbuffered and is sent once. A connection that cannot be made at all costs
//! nothing and is always tried again.
//!
//! COMPAT(pkg/messaging/direct_messaging.go, pkg/api/grpc/daprinternal.go).

mod forwarded;
mod method;

use crate::catalogue::invoke as catalogue;
use crate::error::{ApiError, Result};
use forwarded::Forwarded;
use http::{HeaderValue, Request, Response, StatusCode};
use outrigger_channel::app::AppChannel;
use outrigger_channel::body::Body;
use outrigger_channel::call::{Call, Reply, Status};
use outrigger_channel::error::Error;
use outrigger_channel::peer::{PeerChannel, insert_trace as insert_grpc_trace};
use outrigger_channel::wire;
use outrigger_component::resolver::{Endpoint, NameResolver, Target};
use outrigger_daemon::metrics::{Answer, Invocation, Shape};
use outrigger_daemon::trace::Context;
use outrigger_resiliency::core::retry;
use outrigger_resiliency::policies::Policies;
use outrigger_resiliency::policy::Outcome;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Bodies up to this length are waited for before the call goes out, so that the call can be repeated.
const REPLAY: u64 = 64 << 10;
/// COMPAT(pkg/resiliency): `DaprBuiltInServiceRetries`.
const RETRIES: u32 = 3;
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long and how often an app that is not known yet is looked for.
const RESOLVE_TRIES: u32 = 6;
const RESOLVE_PAUSE: Duration = Duration::from_millis(100);

const UNAVAILABLE: i32 = 14;
const UNAUTHENTICATED: i32 = 16;
const PERMISSION_DENIED: i32 = 7;

/// The invocation use cases.
pub struct Invoke {
    me: Target,
    app: Option<Arc<dyn AppChannel>>,
    peers: Arc<dyn PeerChannel>,
    names: Arc<dyn NameResolver>,
    forwarded: Forwarded,
    policies: Arc<Policies>,
    body_limit: usize,
    metrics: Invocation,
    next: AtomicUsize,
}

/// What [`Invoke`] is made of.
pub struct Parts {
    pub me: Target,
    /// `None` when the sidecar has no app (`--app-port` not given).
    pub app: Option<Arc<dyn AppChannel>>,
    pub peers: Arc<dyn PeerChannel>,
    pub names: Arc<dyn NameResolver>,
    /// This machine's address and name, for the forwarding headers.
    pub host_address: String,
    pub host_name: String,
    pub policies: Arc<Policies>,
    /// Most bytes of a body that are kept for a policy with retries.
    pub body_limit: usize,
    pub metrics: Invocation,
}

/// Who asks for a gRPC request to be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The app (or anybody else) at the API port.
    Api,
    /// Another sidecar.
    Peer,
}

/// A refusal on the way in, as the peer protocol carries it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    pub grpc: i32,
    pub message: String,
}

impl Invoke {
    pub fn new(parts: Parts) -> Self {
        Self {
            me: parts.me,
            app: parts.app,
            peers: parts.peers,
            names: parts.names,
            forwarded: Forwarded::new(&parts.host_address, &parts.host_name),
            policies: parts.policies,
            body_limit: parts.body_limit,
            metrics: parts.metrics,
            next: AtomicUsize::new(0),
        }
    }

    /// Invokes `call.method` of the app named `target` (`app-id` or `app-id.namespace`).
    ///
    /// The answer of the app is a success here whatever its status; `Err` means that there was no answer.
    pub async fn call(&self, target: &str, mut call: Call, trace: Option<&Context>) -> Result<Reply> {
        call.method = method::normalise(&call.method)
            .map_err(|error| failed(target, &status(3, &format!("invalid method: {error}"))))?;
        let app = self.target(target).map_err(|error| failed(target, &error))?;
        let endpoint = format!("{target}:{}", call.method);
        let policy = self.policies.app(target, &endpoint);
        if policy.is_none() {
            return self
                .once(&app, call, trace, Retries::BuiltIn)
                .await
                .map_err(|error| refused(target, error));
        }
        if policy.has_retries() && call.body.length().is_some() {
            let body = std::mem::take(&mut call.body);
            call.body = body
                .collect(self.body_limit)
                .await
                .map_err(|error| failed(target, &error))?
                .into();
        }
        // A body that can be read once only: its failure is final.
        let permanent = call.body.at_hand().is_none();
        let call = Mutex::new(call);
        let outcome = policy
            .run(|_attempt| {
                let this = {
                    let mut call = call.lock().unwrap_or_else(PoisonError::into_inner);
                    if permanent {
                        std::mem::take(&mut *call)
                    } else {
                        again(&call)
                    }
                };
                async {
                    match self.once(&app, this, trace, Retries::None).await {
                        Ok(reply) if reply.status.is_success() => Ok(reply),
                        Ok(reply) => Err(Attempt {
                            failure: Failure::Answered(Box::new(reply)),
                            permanent,
                        }),
                        Err(error) => Err(Attempt {
                            failure: Failure::Unanswered(error),
                            permanent,
                        }),
                    }
                }
            })
            .await;
        match outcome {
            Ok(reply) => Ok(reply),
            Err(outrigger_resiliency::policy::Error::Operation(attempt)) => match attempt.failure {
                // The last answer is what the caller gets, failed or not.
                Failure::Answered(reply) => Ok(*reply),
                Failure::Unanswered(error) => Err(refused(target, error)),
            },
            Err(other) => Err(failed(target, &other)),
        }
    }

    /// One call without the target's policy.
    async fn once(
        &self,
        app: &Target,
        mut call: Call,
        trace: Option<&Context>,
        retries: Retries,
    ) -> std::result::Result<Reply, Error> {
        if *app == self.me {
            let Some(channel) = &self.app else {
                return Err(Error::Invalid(
                    "cannot invoke local endpoint: app channel not initialized".to_owned(),
                ));
            };
            insert_trace(&mut call, trace);
            return channel.invoke(call).await;
        }
        self.forwarded.add(&mut call.headers);
        self.remote(app, call, trace, retries).await
    }

    /// Serves a call that another sidecar sent.
    pub async fn serve(
        &self,
        mut call: Call,
        trace: Option<&Context>,
    ) -> std::result::Result<Reply, Refused> {
        let internal = |message: String| Refused { grpc: 13, message };
        let Some(channel) = &self.app else {
            return Err(internal(catalogue::NO_CHANNEL.to_owned()));
        };
        call.method = method::normalise(&call.method).map_err(|error| Refused {
            grpc: 3,
            message: format!("invalid method: {error}"),
        })?;
        let caller = header(&call, wire::CALLER_APP_ID).to_owned();
        self.metrics.received(&caller);
        call.headers.remove(wire::DESTINATION_APP_ID);
        insert_trace(&mut call, trace);
        let reply = channel.invoke(call).await;
        self.metrics.answered(
            &caller,
            reply
                .as_ref()
                .map_or(Answer::Grpc(13), |reply| answer(&reply.status)),
        );
        reply.map_err(|error| internal(catalogue::channel_failed(error)))
    }

    /// Passes a gRPC request of any service on to the app named `target`, byte by byte in both directions.
    pub async fn proxy(
        &self,
        target: &str,
        mut request: Request<Body>,
        from: Origin,
        trace: Option<&Context>,
    ) -> std::result::Result<Response<Body>, Refused> {
        let refused = |error: Error| Refused {
            grpc: error.grpc_code(),
            message: plain(error),
        };
        let app = self
            .target(target)
            .map_err(|message| Refused { grpc: 3, message })?;
        if app.app_id == self.me.app_id {
            let Some(channel) = &self.app else {
                return Err(Refused {
                    grpc: 13,
                    message: catalogue::NO_CHANNEL.to_owned(),
                });
            };
            if let Some(trace) = trace {
                insert_grpc_trace(request.headers_mut(), trace);
            }
            return channel.proxy(request).await.map_err(refused);
        }
        if from == Origin::Peer {
            // INVARIANT: a call that arrived from a peer never leaves to another peer.
            return Err(Refused {
                grpc: 5,
                message: format!("app {target} is not behind this sidecar ({})", self.me.app_id),
            });
        }
        let endpoint = self.pick(&app).await.map_err(refused)?;
        let headers = request.headers_mut();
        // The next sidecar goes by the callee's id; the app is not told how it was addressed.
        headers.remove("dapr-app-id");
        if let Some(trace) = trace {
            insert_grpc_trace(headers, trace);
        }
        for (name, value) in [
            (wire::CALLER_APP_ID, &self.me.app_id),
            (wire::CALLEE_APP_ID, &app.app_id),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        if let Err(error) = self.peers.reach(&endpoint).await {
            self.peers.forget(&endpoint);
            self.names.unreachable(&app, &endpoint);
            return Err(refused(error));
        }
        self.peers.proxy(&endpoint, request).await.map_err(refused)
    }

    /// `app-id` or `app-id.namespace`.
    fn target(&self, text: &str) -> std::result::Result<Target, String> {
        if text.starts_with("http://") || text.starts_with("https://") {
            return Err("invoking external URLs is not available in this version of Outrigger".to_owned());
        }
        let mut parts = text.split('.');
        match (
            parts.next().filter(|id| !id.is_empty()),
            parts.next(),
            parts.next(),
        ) {
            (Some(id), None, _) => Ok(Target {
                app_id: id.to_owned(),
                namespace: self.me.namespace.clone(),
            }),
            (Some(id), Some(namespace), None) => Ok(Target {
                app_id: id.to_owned(),
                namespace: namespace.to_owned(),
            }),
            (None, ..) => Err("app id is empty".to_owned()),
            _ => Err(format!("invalid app id {text}")),
        }
    }

    async fn remote(
        &self,
        app: &Target,
        mut call: Call,
        trace: Option<&Context>,
        retries: Retries,
    ) -> std::result::Result<Reply, Error> {
        if call.body.at_hand().is_none() && call.body.length().is_some_and(|length| length <= REPLAY) {
            let body = std::mem::take(&mut call.body);
            let limit = usize::try_from(REPLAY).unwrap_or(usize::MAX);
            call.body = body
                .collect(limit)
                .await
                .map_err(|error| Error::Invalid(error.to_string()))?
                .into();
        }
        let most = match retries {
            Retries::BuiltIn => RETRIES,
            Retries::None => 0,
        };
        let mut attempt = 0;
        loop {
            let endpoint = self.pick(app).await?;
            // Looked at first: a sidecar that is not there must not cost a body that cannot be sent twice.
            let reached = self.peers.reach(&endpoint).await;
            let repeatable = reached.is_err() || call.body.at_hand().is_some();
            let outcome = match reached {
                Err(error) => Err(error),
                Ok(()) => {
                    let this = if repeatable && attempt < most {
                        again(&call)
                    } else {
                        std::mem::take(&mut call)
                    };
                    self.metrics.sent(&app.app_id, Shape::Unary);
                    let started = tokio::time::Instant::now();
                    let outcome = self.peers.invoke(&endpoint, app, this, trace).await;
                    if let Ok(reply) = &outcome {
                        self.metrics.replied(
                            &app.app_id,
                            answer(&reply.status),
                            Shape::Unary,
                            started.elapsed(),
                        );
                    }
                    outcome
                }
            };
            match outcome {
                Ok(reply) => return Ok(reply),
                Err(error) if matches!(error.grpc_code(), UNAVAILABLE | UNAUTHENTICATED) => {
                    self.peers.forget(&endpoint);
                    self.names.unreachable(app, &endpoint);
                    if attempt >= most || !repeatable {
                        return Err(status(
                            error.grpc_code(),
                            &format!(
                                "failed to invoke target {} after {attempt} retries. Error: {error}",
                                app.app_id
                            ),
                        ));
                    }
                    attempt += 1;
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One of the instances of an app, in turn.
    async fn pick(&self, app: &Target) -> std::result::Result<Endpoint, Error> {
        let mut tries = 1;
        loop {
            let mut found = self
                .names
                .resolve(app)
                .await
                .map_err(|error| Error::Invalid(error.to_string()))?;
            if !found.is_empty() {
                let turn = self.next.fetch_add(1, Ordering::Relaxed) % found.len();
                return Ok(found.swap_remove(turn));
            }
            if tries == RESOLVE_TRIES {
                return Err(Error::Invalid(format!(
                    "couldn't find service: {}; is a sidecar with this app id running?",
                    app.app_id
                )));
            }
            tries += 1;
            tokio::time::sleep(RESOLVE_PAUSE).await;
        }
    }
}

/// Whether a call to a sidecar that went away is repeated here, or by the policy around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retries {
    BuiltIn,
    None,
}

/// A call that its policy may repeat.
struct Attempt {
    failure: Failure,
    permanent: bool,
}

enum Failure {
    /// The app answered with a failure.
    Answered(Box<Reply>),
    Unanswered(Error),
}

impl std::fmt::Display for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.failure {
            Failure::Answered(reply) => write!(f, "the app answered with {:?}", reply.status),
            Failure::Unanswered(error) => error.fmt(f),
        }
    }
}

impl Outcome for Attempt {
    fn status(&self) -> Option<retry::Status> {
        match &self.failure {
            Failure::Answered(reply) => match reply.status {
                Status::Http(code) => Some(retry::Status::Http(code)),
                Status::Grpc { code, .. } => u16::try_from(code).ok().map(retry::Status::Grpc),
            },
            Failure::Unanswered(_) => None,
        }
    }

    fn is_permanent(&self) -> bool {
        self.permanent
    }
}

/// The same call once more; only for calls whose body is at hand.
fn again(call: &Call) -> Call {
    Call {
        verb: call.verb.clone(),
        method: call.method.clone(),
        query: call.query.clone(),
        headers: call.headers.clone(),
        body: call.body.at_hand().map_or(Body::Empty, Body::from),
        type_url: call.type_url.clone(),
        event_stream: call.event_stream,
    }
}

/// The app sees the trace of the last hop.
fn insert_trace(call: &mut Call, trace: Option<&Context>) {
    if let Some(trace) = trace {
        outrigger_channel::app::insert_trace(&mut call.headers, trace);
    }
}

fn header<'a>(call: &'a Call, name: &str) -> &'a str {
    call.headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn answer(status: &Status) -> Answer {
    match status {
        Status::Http(code) => {
            Answer::Http(StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
        }
        Status::Grpc { code, .. } => Answer::Grpc(*code),
    }
}

/// The text of an error without the frame that gRPC clients put around it themselves.
fn plain(error: Error) -> String {
    match error {
        Error::Status { message, .. } => message,
        other => other.to_string(),
    }
}

fn status(code: i32, message: &str) -> Error {
    Error::Status {
        code,
        message: message.to_owned(),
        details: Vec::new(),
    }
}

/// Refused by the callee's rules, or not answered at all.
fn refused(target: &str, error: Error) -> ApiError {
    match error.grpc_code() {
        PERMISSION_DENIED => catalogue::denied(target, error),
        _ => failed(target, &error),
    }
}

fn failed(target: &str, cause: &dyn std::fmt::Display) -> ApiError {
    catalogue::failed(target, cause)
}

#[cfg(test)]
mod tests;
