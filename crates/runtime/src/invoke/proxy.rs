//! gRPC calls of any service, passed on byte by byte in both directions.
//!
//! A call to another app runs under that app's policy. Nobody tells us whether a call is unary or a stream, so callers say
//! so: with the metadata `dapr-stream: true` only the connection is made under the policy, otherwise the call is under it
//! until its first message or its status is here. What the caller has sent by then is kept, within the limit for bodies, and
//! sent again with a retry.
//!
//! COMPAT(pkg/messaging/grpc_proxy.go, pkg/api/grpc/proxy/handler.go).

mod replay;

use super::{Invoke, Origin, Refused, catalogue, normalised};
use crate::access::Identity;
use http::{HeaderValue, Request, Response};
use http_body::Body as _;
use outrigger_channel::body::Body;
use outrigger_channel::error::Error;
use outrigger_channel::peer::insert_trace;
use outrigger_channel::wire;
use outrigger_component::resolver::Target;
use outrigger_daemon::trace::Context;
use outrigger_resiliency::core::retry;
use outrigger_resiliency::policy::{self, Outcome, Policy};
use replay::{Begun, Replay};
use std::fmt;
use std::pin::Pin;

const STREAM: &str = "dapr-stream";

impl Invoke {
    /// Passes a gRPC request of any service on to the app named `target`. `caller` is whose certificate came with it; `None`
    /// without mTLS.
    pub async fn proxy(
        &self,
        target: &str,
        mut request: Request<Body>,
        from: Origin,
        caller: Option<&Identity>,
        trace: Option<&Context>,
    ) -> Result<Response<Body>, Refused> {
        let app = self
            .target(target)
            .map_err(|message| Refused { grpc: 3, message })?;
        let method = normalised(request.uri().path())?;
        if let Some(trace) = trace {
            insert_trace(request.headers_mut(), trace);
        }
        if app.app_id == self.me.app_id {
            self.admit(caller, &method, None)?;
            let Some(channel) = &self.app else {
                return Err(Refused {
                    grpc: 13,
                    message: catalogue::NO_CHANNEL.to_owned(),
                });
            };
            return channel.proxy(request).await.map_err(refused);
        }
        if from == Origin::Peer {
            // INVARIANT: a call that arrived from a peer never leaves to another peer.
            return Err(Refused {
                grpc: 5,
                message: format!("app {target} is not behind this sidecar ({})", self.me.app_id),
            });
        }
        let headers = request.headers_mut();
        let is_stream = headers
            .get(STREAM)
            .is_some_and(|value| is_truthy(value.as_bytes()));
        // The next sidecar goes by the callee's id; the app is not told how it was addressed.
        headers.remove("dapr-app-id");
        for (name, value) in [
            (wire::CALLER_APP_ID, &self.me.app_id),
            (wire::CALLEE_APP_ID, &app.app_id),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        let endpoint = format!("{target}:{method}");
        let policy = self.policies.app(target, &endpoint);
        if policy.is_none() {
            return self.forward(&app, request).await.map_err(refused);
        }
        // Boxed: it is large, and most calls have no policy.
        Box::pin(self.forward_under(&policy, &app, request, is_stream)).await
    }

    /// Passes a call on under its target's policy.
    async fn forward_under(
        &self,
        policy: &Policy<'_>,
        app: &Target,
        request: Request<Body>,
        is_stream: bool,
    ) -> Result<Response<Body>, Refused> {
        if is_stream {
            let reached = policy.run(|_| async { self.reachable(app).await.map_err(Attempt::unanswered) });
            reached.await.map_err(ended)?;
            return self.forward(app, request).await.map_err(refused);
        }
        let (head, body) = request.into_parts();
        let replay = Replay::new(body, policy.has_retries().then_some(self.body_limit));
        let answered = policy
            .run(|_| {
                let request = Request::from_parts(head.clone(), replay.again());
                let replay = &replay;
                async move {
                    let outcome = match self.forward(app, request).await {
                        Ok(response) => judged(response).await,
                        Err(error) => Err(Attempt::unanswered(error)),
                    };
                    outcome.map_err(|attempt| Attempt {
                        permanent: !replay.is_whole(),
                        ..attempt
                    })
                }
            })
            .await;
        replay.let_go();
        match answered {
            Ok(response) => Ok(response),
            // The last answer is what the caller gets.
            Err(policy::Error::Operation(Attempt {
                failure: Failure::Answered { response, .. },
                ..
            })) => Ok(*response),
            Err(other) => Err(ended(other)),
        }
    }

    /// One try at one instance.
    async fn forward(&self, app: &Target, request: Request<Body>) -> Result<Response<Body>, Error> {
        let mut endpoint = self.pick(app).await?;
        if let Err(error) = self.peers.reach(&endpoint).await {
            // Nothing was sent: another instance may have it.
            self.lost(app, &endpoint, &error);
            endpoint = self.pick(app).await?;
        }
        let outcome = self.peers.proxy(&endpoint, request).await;
        if let Ok(response) = &outcome
            && response.status().is_success()
        {
            self.balance.answered(&endpoint);
        }
        outcome
    }

    async fn reachable(&self, app: &Target) -> Result<(), Error> {
        let endpoint = self.pick(app).await?;
        let outcome = self.peers.reach(&endpoint).await;
        if let Err(error) = &outcome {
            self.lost(app, &endpoint, error);
        }
        outcome
    }
}

/// One try under a policy.
struct Attempt {
    failure: Failure,
    permanent: bool,
}

enum Failure {
    /// The app answered with a status other than OK.
    Answered {
        code: i32,
        response: Box<Response<Body>>,
    },
    Unanswered(Error),
}

impl Attempt {
    fn unanswered(error: Error) -> Self {
        Self {
            failure: Failure::Unanswered(error),
            permanent: false,
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failure {
            Failure::Answered { code, .. } => write!(f, "the app answered with gRPC status {code}"),
            Failure::Unanswered(error) => error.fmt(f),
        }
    }
}

impl Outcome for Attempt {
    fn status(&self) -> Option<retry::Status> {
        let code = match &self.failure {
            Failure::Answered { code, .. } => *code,
            Failure::Unanswered(error) => error.grpc_code(),
        };
        u16::try_from(code).ok().map(retry::Status::Grpc)
    }

    fn is_permanent(&self) -> bool {
        self.permanent
    }
}

/// Waits for the first message of an answer or for its status, and says which it is.
async fn judged(response: Response<Body>) -> Result<Response<Body>, Attempt> {
    let answered = |code: i32, response: Response<Body>| match code {
        0 => Ok(response),
        code => Err(Attempt {
            failure: Failure::Answered {
                code,
                response: Box::new(response),
            },
            permanent: false,
        }),
    };
    if let Some((code, _)) = wire::grpc_status(response.headers()) {
        return answered(code, response);
    }
    let (head, mut body) = response.into_parts();
    let first = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
    let code = match &first {
        Some(Ok(frame)) => frame
            .trailers_ref()
            .and_then(wire::grpc_status)
            .map_or(0, |(code, _)| code),
        Some(Err(error)) => {
            return Err(Attempt::unanswered(Error::Unavailable(error.to_string())));
        }
        None => 0,
    };
    answered(
        code,
        Response::from_parts(head, Body::stream(Begun::new(first, body))),
    )
}

fn refused(error: Error) -> Refused {
    Refused {
        grpc: error.grpc_code(),
        message: plain(error),
    }
}

/// How a policy ended without an answer.
fn ended(error: policy::Error<Attempt>) -> Refused {
    match error {
        policy::Error::Operation(Attempt {
            failure: Failure::Unanswered(error),
            ..
        }) => refused(error),
        policy::Error::Timeout => Refused {
            grpc: 4,
            message: error.to_string(),
        },
        other => Refused {
            grpc: 2,
            message: other.to_string(),
        },
    }
}

/// The text of an error without the frame that gRPC clients put around it themselves.
fn plain(error: Error) -> String {
    match error {
        Error::Status { message, .. } => message,
        other => other.to_string(),
    }
}

/// COMPAT(dapr/kit utils): `1`, `t`, `y`, `yes`, `on`, `true`, in any case.
fn is_truthy(value: &[u8]) -> bool {
    let value = value.trim_ascii();
    ["1", "y", "yes", "true", "on", "t"]
        .iter()
        .any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
}
