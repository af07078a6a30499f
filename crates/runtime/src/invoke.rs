//! Service invocation: from a target name to the app that answers, here or behind another sidecar.
//!
//! A body that is here already (or small enough to be waited for) can be sent again, so a call whose sidecar went away
//! is repeated; a streamed body passes through unbuffered and is sent once. A connection that cannot be made at all costs
//! nothing and is always tried again, at another instance where there is one.
//!
//! Not every target has a sidecar: `HTTPEndpoint` resources and URLs are called directly.
//!
//! COMPAT(pkg/messaging/direct_messaging.go, pkg/api/grpc/daprinternal.go).

mod balance;
mod forwarded;
mod method;
mod proxy;
mod remote;

use crate::access::{Identity, Rules};
use crate::catalogue::invoke as catalogue;
use crate::error::{ApiError, Result};
use balance::Balance;
use forwarded::Forwarded;
use http::{Method, StatusCode};
use outrigger_channel::app::AppChannel;
use outrigger_channel::body::Body;
use outrigger_channel::call::{Call, Reply, Status};
use outrigger_channel::endpoint::{Endpoints, is_url};
use outrigger_channel::error::Error;
use outrigger_channel::peer::PeerChannel;
use outrigger_channel::wire;
use outrigger_component::resolver::{NameResolver, Target};
use outrigger_daemon::metrics::{Access, Answer, Invocation, Shape};
use outrigger_daemon::trace::Context;
use outrigger_resiliency::core::retry;
use outrigger_resiliency::policies::Policies;
use outrigger_resiliency::policy::{Outcome, Policy};
use remote::Retries;
use std::sync::{Arc, Mutex, PoisonError};

const PERMISSION_DENIED: i32 = 7;

/// The invocation use cases.
pub struct Invoke {
    me: Target,
    app: Option<Arc<dyn AppChannel>>,
    peers: Arc<dyn PeerChannel>,
    names: Arc<dyn NameResolver>,
    endpoints: Arc<Endpoints>,
    access: Option<Rules>,
    forwarded: Forwarded,
    policies: Arc<Policies>,
    body_limit: usize,
    metrics: Invocation,
    access_metrics: Access,
    balance: Balance,
}

/// What [`Invoke`] is made of.
pub struct Parts {
    pub me: Target,
    /// `None` when the sidecar has no app (`--app-port` not given).
    pub app: Option<Arc<dyn AppChannel>>,
    pub peers: Arc<dyn PeerChannel>,
    pub names: Arc<dyn NameResolver>,
    /// What is called without a sidecar.
    pub endpoints: Arc<Endpoints>,
    /// Who may call the app; `None`: everybody.
    pub access: Option<Rules>,
    /// This machine's address and name, for the forwarding headers.
    pub host_address: String,
    pub host_name: String,
    pub policies: Arc<Policies>,
    /// Most bytes of a body that are kept for a policy with retries.
    pub body_limit: usize,
    pub metrics: Invocation,
    pub access_metrics: Access,
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
            endpoints: parts.endpoints,
            access: parts.access,
            forwarded: Forwarded::new(&parts.host_address, &parts.host_name),
            policies: parts.policies,
            body_limit: parts.body_limit,
            metrics: parts.metrics,
            access_metrics: parts.access_metrics,
            balance: Balance::default(),
        }
    }

    /// Invokes `call.method` of `target`: `app-id`, `app-id.namespace`, the name of an `HTTPEndpoint`, or a URL.
    ///
    /// The answer of the app is a success here whatever its status; `Err` means that there was no answer.
    pub async fn call(&self, target: &str, mut call: Call, trace: Option<&Context>) -> Result<Reply> {
        call.method = method::normalise(&call.method)
            .map_err(|error| failed(target, &status(3, &format!("invalid method: {error}"))))?;
        let callee = self.callee(target).map_err(|error| failed(target, &error))?;
        let endpoint = format!("{target}:{}", call.method);
        let policy = self.policies.app(target, &endpoint);
        if policy.is_none() {
            return self
                .once(&callee, call, trace, Retries::BuiltIn)
                .await
                .map_err(|error| refused(target, error));
        }
        // Boxed: it is large, and most calls have no policy.
        Box::pin(self.under(&policy, target, &callee, call, trace)).await
    }

    /// A call under its target's policy.
    async fn under(
        &self,
        policy: &Policy<'_>,
        target: &str,
        callee: &Callee<'_>,
        mut call: Call,
        trace: Option<&Context>,
    ) -> Result<Reply> {
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
                    match self.once(callee, this, trace, Retries::None).await {
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
        callee: &Callee<'_>,
        mut call: Call,
        trace: Option<&Context>,
        retries: Retries,
    ) -> std::result::Result<Reply, Error> {
        let app = match callee {
            Callee::App(app) => app,
            Callee::Endpoint(name) => {
                insert_trace(&mut call, trace);
                return Box::pin(self.endpoint(name, call)).await;
            }
        };
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

    /// Calls a service that has no sidecar. COMPAT(pkg/messaging/direct_messaging.go): nothing is forwarded about us.
    async fn endpoint(&self, name: &str, call: Call) -> std::result::Result<Reply, Error> {
        // A URL may hold credentials, and there is no end of URLs.
        let label = if is_url(name) { "url" } else { name };
        self.metrics.sent(label, Shape::Unary);
        let started = tokio::time::Instant::now();
        let reply = self.endpoints.invoke(name, call).await?;
        self.metrics
            .replied(label, answer(&reply.status), Shape::Unary, started.elapsed());
        Ok(reply)
    }

    /// Serves a call that another sidecar sent. `caller` is whose certificate it showed; `None` without mTLS.
    pub async fn serve(
        &self,
        mut call: Call,
        caller: Option<&Identity>,
        trace: Option<&Context>,
    ) -> std::result::Result<Reply, Refused> {
        let internal = |message: String| Refused { grpc: 13, message };
        let Some(channel) = &self.app else {
            return Err(internal(catalogue::NO_CHANNEL.to_owned()));
        };
        call.method = normalised(&call.method)?;
        self.admit(caller, &call.method, Some(&call.verb))?;
        let from = header(&call, wire::CALLER_APP_ID).to_owned();
        self.metrics.received(&from);
        call.headers.remove(wire::DESTINATION_APP_ID);
        insert_trace(&mut call, trace);
        let event_stream = call.event_stream;
        let reply = channel.invoke(call).await;
        self.metrics.answered(
            &from,
            reply
                .as_ref()
                .map_or(Answer::Grpc(13), |reply| answer(&reply.status)),
        );
        let reply = reply.map_err(|error| internal(catalogue::channel_failed(error)))?;
        // COMPAT(pkg/sse/sse.go): whoever waits for events is not shown an answer that has none.
        if event_stream && matches!(reply.status, Status::Http(code) if !(200..300).contains(&code)) {
            return Err(internal(catalogue::channel_failed(catalogue::NO_EVENTS)));
        }
        Ok(reply)
    }

    /// Asks the app's rules about a caller.
    fn admit(
        &self,
        caller: Option<&Identity>,
        method: &str,
        verb: Option<&Method>,
    ) -> std::result::Result<(), Refused> {
        let Some(rules) = &self.access else {
            // COMPAT(pkg/acl/acl.go): without rules everything counts as allowed by the default, by whomever it came.
            self.access_metrics.by_default(true, "", "", "");
            return Ok(());
        };
        let decision = rules.decide(caller, method, verb);
        let (app_id, trust_domain, namespace) = caller.map_or(("", "", ""), |caller| {
            (
                caller.app_id.as_str(),
                caller.trust_domain.as_str(),
                caller.namespace.as_str(),
            )
        });
        let count = if decision.by_policy {
            Access::by_app
        } else {
            Access::by_default
        };
        count(
            &self.access_metrics,
            decision.allowed,
            app_id,
            trust_domain,
            namespace,
        );
        if decision.allowed {
            return Ok(());
        }
        let verb = verb.filter(|_| rules.is_http()).map_or("NONE", Method::as_str);
        Err(Refused {
            grpc: PERMISSION_DENIED,
            message: catalogue::access_denied(caller, method, verb),
        })
    }

    /// Who is called.
    fn callee<'t>(&self, target: &'t str) -> std::result::Result<Callee<'t>, String> {
        if self.endpoints.has(target) {
            return Ok(Callee::Endpoint(target));
        }
        let app = self.target(target)?;
        // COMPAT: a namespace behind the name of a resource is of no account.
        match target.split_once('.') {
            Some((name, _)) if self.endpoints.has(name) => Ok(Callee::Endpoint(name)),
            _ => Ok(Callee::App(app)),
        }
    }

    /// `app-id` or `app-id.namespace`.
    fn target(&self, text: &str) -> std::result::Result<Target, String> {
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
}

/// Who a target names.
enum Callee<'t> {
    App(Target),
    /// A resource by its name, or a URL.
    Endpoint(&'t str),
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

fn normalised(method: &str) -> std::result::Result<String, Refused> {
    method::normalise(method).map_err(|error| Refused {
        grpc: 3,
        message: format!("invalid method: {error}"),
    })
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
