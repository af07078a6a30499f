//! Calls to an app behind another sidecar: which instance, and again when it is gone.

use super::{Invoke, again, answer, status};
use outrigger_channel::call::{Call, Reply};
use outrigger_channel::error::Error;
use outrigger_component::resolver::{Endpoint, Target};
use outrigger_daemon::metrics::Shape;
use outrigger_daemon::trace::Context;
use std::time::Duration;
use tokio::time::Instant;

/// Bodies up to this length are waited for before the call goes out, so that the call can be repeated.
const REPLAY: u64 = 64 << 10;
/// COMPAT(pkg/resiliency): `DaprBuiltInServiceRetries`.
const RETRIES: u32 = 3;
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How often an app that is not known yet is looked for, and how long: resolvers that wait themselves (mDNS) are asked once.
const RESOLVE_TRIES: u32 = 6;
const RESOLVE_WAIT: Duration = Duration::from_secs(1);
const RESOLVE_PAUSE: Duration = Duration::from_millis(100);

const UNAVAILABLE: i32 = 14;
const UNAUTHENTICATED: i32 = 16;

/// Whether a call to a sidecar that went away is repeated here, or by the policy around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retries {
    BuiltIn,
    None,
}

impl Invoke {
    pub(super) async fn remote(
        &self,
        app: &Target,
        mut call: Call,
        trace: Option<&Context>,
        retries: Retries,
    ) -> Result<Reply, Error> {
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
        let mut endpoint = self.pick(app).await?;
        loop {
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
                    let started = Instant::now();
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
                Ok(reply) => {
                    self.balance.answered(&endpoint);
                    return Ok(reply);
                }
                Err(error) if matches!(error.grpc_code(), UNAVAILABLE | UNAUTHENTICATED) => {
                    self.lost(app, &endpoint, &error);
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
                    // Boxed: rare, and every call would make room for it.
                    endpoint = Box::pin(self.next(app, endpoint)).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes note that an instance did not answer. One that refuses because it has too much to do is there, and keeps its
    /// connections.
    pub(super) fn lost(&self, app: &Target, endpoint: &Endpoint, error: &Error) {
        let is_gone = matches!(error, Error::Unavailable(_));
        if is_gone || error.grpc_code() == UNAUTHENTICATED {
            self.peers.forget(endpoint);
            self.names.unreachable(app, endpoint);
        }
        if is_gone {
            self.balance.failed(endpoint, Instant::now());
        }
    }

    /// Another instance at once, or the same one after a pause.
    async fn next(&self, app: &Target, lost: Endpoint) -> Result<Endpoint, Error> {
        let others = self.names.resolve(app).await.unwrap_or_default();
        match self.balance.choose(others, Instant::now()) {
            Some(other) if other != lost => Ok(other),
            _ => {
                tokio::time::sleep(RETRY_PAUSE).await;
                self.pick(app).await
            }
        }
    }

    /// One of the instances of an app.
    pub(super) async fn pick(&self, app: &Target) -> Result<Endpoint, Error> {
        let mut tries = 1;
        let began = Instant::now();
        loop {
            let found = self
                .names
                .resolve(app)
                .await
                .map_err(|error| Error::Invalid(error.to_string()))?;
            if let Some(chosen) = self.balance.choose(found, Instant::now()) {
                return Ok(chosen);
            }
            if tries == RESOLVE_TRIES || began.elapsed() >= RESOLVE_WAIT {
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
