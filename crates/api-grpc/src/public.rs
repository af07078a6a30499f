//! The door for everybody: `dapr.proto.runtime.v1.Dapr`, and calls of any other service passed on to the app they name.
//!
//! One call is one straight line through [`Door::call`]: filter, token, trace, decode, one use case, encode, metrics and
//! access log.
//!
//! Invariants
//! - Every call is answered, whatever it contains; refusals name what is wrong.
//! - Messages are bounded (`--max-body-size`) in both directions; bodies of calls that are passed on are never collected.
//!
//! Deliberately absent: policy (that is `runtime`'s), listening and draining (`daemon`'s), compressed messages, and methods of
//! building blocks that this version does not have, which say so.

use crate::bounded::Excess;
use crate::error::{Failure, GRPC, Status, code};
use crate::filter::Filter;
use crate::held::held;
use crate::internal::{proxy_target, refusal};
use crate::observe::{Describe, Observed, Sinks, Sort};
use crate::service::Service;
use crate::token::Token;
use crate::unary::{self, Answer, Inbound};
use crate::{bindings, configuration, invoke, lock, metadata, pubsub, reflection, secrets, state, subscribe};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use outrigger_channel::body::Body;
use outrigger_daemon::drain::Trigger;
use outrigger_daemon::log::Log;
use outrigger_daemon::metrics;
use outrigger_daemon::trace::{Context, Tracer};
use outrigger_proto::dapr::runtime::v1 as proto;
use outrigger_runtime::admission::Admission;
use outrigger_runtime::bindings::Bindings;
use outrigger_runtime::catalogue::common as catalogue;
use outrigger_runtime::configuration::Configuration;
use outrigger_runtime::error::ApiError;
use outrigger_runtime::invoke::{Invoke, Origin};
use outrigger_runtime::lock::Lock;
use outrigger_runtime::metadata::Metadata;
use outrigger_runtime::pubsub::Pubsub;
use outrigger_runtime::secrets::Secrets;
use outrigger_runtime::state::State;
use prost::Message;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

const SERVICE: &str = "dapr.proto.runtime.v1.Dapr";
const DAPR: &str = "/dapr.proto.runtime.v1.Dapr/";
/// The workflow worker service; it has no package.
/// The one method of ours whose request is a stream.
const STREAM: &str = "SubscribeTopicEventsAlpha1";
const TASK_HUB: &str = "/TaskHubSidecarService/";

/// How the door behaves.
pub struct Config {
    pub app_id: String,
    /// Largest message in either direction, in bytes.
    pub body_limit: usize,
    /// Token that callers must show; empty: none. Never shown.
    pub api_token: String,
    /// How long the message of a unary call may pause while more of it is waited for; `None` is for ever. Streams may pause.
    pub body_patience: Option<Duration>,
    /// Which methods exist.
    pub filter: Filter,
    /// How many calls are worked on at once.
    pub admission: Admission,
    /// Whether calls are logged.
    pub api_logging: bool,
}

/// What every door needs.
pub struct Parts {
    pub metadata: Arc<Metadata>,
    pub tracer: Tracer,
    /// `None`: metrics are off.
    pub metrics: Option<Arc<metrics::Grpc>>,
    /// `None`: error codes are not counted (`recordErrorCodes`).
    pub errors: Option<Arc<metrics::Errors>>,
    /// Any scope; the door uses `dapr.runtime.grpc.api` and `dapr.runtime.grpc.api-info`.
    pub log: Log,
}

/// The building blocks behind the API's door.
pub struct Blocks {
    pub invoke: Arc<Invoke>,
    pub state: Arc<State>,
    pub pubsub: Arc<Pubsub>,
    pub secrets: Arc<Secrets>,
    pub configuration: Arc<Configuration>,
    pub lock: Arc<Lock>,
    pub bindings: Arc<Bindings>,
    /// Called for `Shutdown`, before the answer leaves. Must not block.
    pub shutdown: Arc<dyn Fn(Shutdown) + Send + Sync>,
    /// Fired when calls under way are to end.
    pub drain: Trigger,
}

/// How the sidecar is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Finish what is under way.
    Graceful,
    /// `dapr-force-shutdown: true`: exit shortly after the answer has left.
    Force,
}

/// The gRPC API. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Door {
    shared: Arc<Shared>,
}

struct Shared {
    blocks: Blocks,
    metadata: Arc<Metadata>,
    app_id: String,
    limit: usize,
    patience: Option<Duration>,
    token: Token,
    filter: Filter,
    admission: Admission,
    sinks: Arc<Sinks>,
    errors: Option<Arc<metrics::Errors>>,
    log: Log,
}

impl Door {
    pub fn new(config: Config, parts: Parts, blocks: Blocks) -> Self {
        let access = config
            .api_logging
            .then(|| parts.log.scope("dapr.runtime.grpc.api-info"));
        Self {
            shared: Arc::new(Shared {
                blocks,
                metadata: parts.metadata,
                app_id: config.app_id,
                limit: config.body_limit,
                patience: config.body_patience,
                token: Token::new(&config.api_token),
                filter: config.filter,
                admission: config.admission,
                sinks: Arc::new(Sinks {
                    tracer: parts.tracer,
                    metrics: parts.metrics,
                    access,
                }),
                errors: parts.errors,
                log: parts.log.scope("dapr.runtime.grpc.api"),
            }),
        }
    }

    /// The service of one connection.
    pub fn service(&self) -> Service {
        let door = self.clone();
        Service::new(move |request| {
            let door = door.clone();
            Box::pin(async move { Ok(door.call(request).await) })
        })
    }

    /// Serves one call.
    pub async fn call(&self, mut request: Request<Incoming>) -> Response<Body> {
        let shared = &*self.shared;
        if let Some(answer) = not_grpc(&request) {
            return answer;
        }
        if let Err(status) = shared.admit(&mut request) {
            return status.response();
        }
        let uri = request.uri().clone();
        let path = uri.path();
        let Some(method) = path.strip_prefix(DAPR) else {
            if path.starts_with(TASK_HUB) {
                return Status::from(&catalogue::unimplemented(path.trim_start_matches('/'))).response();
            }
            if reflection::serves(path) {
                return reflection::answer(request, SERVICE).await;
            }
            return match shared.admission.enter() {
                Ok(pass) => held(shared.proxy(request).await, pass),
                Err(error) => shared.status(error.into()).response(),
            };
        };
        let (head, body) = request.into_parts();
        let patience = shared.patience.filter(|_| method != STREAM);
        let inbound = Inbound {
            headers: head.headers,
            body: Body::patient(body, patience),
            limit: shared.limit,
        };
        let mut observed = match Observed::start(&shared.sinks, &uri, &inbound.headers, Sort::Api) {
            Ok(observed) => observed,
            Err(status) => return status.response(),
        };
        if method == STREAM {
            let answer = subscribe::subscribe(&shared.blocks, inbound, &shared.log).await;
            let answer = answer.unwrap_or_else(|failure| shared.status(failure).response());
            return observed.streaming(&shared.sinks, answer, false);
        }
        if matches!(method, "SubscribeConfiguration" | "SubscribeConfigurationAlpha1") {
            let answer = configuration::subscribe(&shared.blocks, inbound, &mut observed).await;
            let answer = answer.unwrap_or_else(|failure| shared.status(failure).response());
            return observed.streaming(&shared.sinks, answer, false);
        }
        let work = !matches!(method, "GetMetadata" | "SetMetadata" | "Shutdown");
        let pass = match work.then(|| shared.admission.enter()).transpose() {
            Ok(pass) => pass,
            Err(error) => {
                return observed.answered(&shared.sinks, Answer::failed(&shared.status(error.into())));
            }
        };
        let outcome = match unary::timeout(&inbound.headers) {
            None => shared.unary(method, inbound, &mut observed).await,
            Some(limit) => {
                // Boxed: in place it would be there once more for all calls without a deadline.
                let work = Box::pin(shared.unary(method, inbound, &mut observed));
                let late = |_| Err(Status::new(code::DEADLINE_EXCEEDED, "context deadline exceeded").into());
                tokio::time::timeout(limit, work).await.unwrap_or_else(late)
            }
        };
        let answer = outcome.unwrap_or_else(|failure| Answer::failed(&shared.status(failure)));
        drop(pass);
        observed.answered(&shared.sinks, answer)
    }
}

impl Shared {
    /// What stands between the caller and any method.
    fn admit(&self, request: &mut Request<Incoming>) -> Result<(), Status> {
        if !self.filter.has(request.uri().path()) {
            return Err(Status::of_http(501, "requested endpoint is not available"));
        }
        self.token.admit(request.headers_mut())
    }

    /// Decode, one use case, encode.
    async fn unary(&self, method: &str, call: Inbound, seen: &mut Observed) -> Result<Answer, Failure> {
        let Blocks {
            invoke,
            state,
            pubsub,
            secrets,
            configuration,
            lock,
            shutdown,
            ..
        } = &self.blocks;
        let trace = seen.context().cloned();
        match method {
            "InvokeService" => {
                let request = unary::read(call.body, call.limit).await?;
                seen.received(&request.message, request.size);
                let trace = trace.as_ref();
                // Boxed: it is by far the largest, and every call of this door would make room for it.
                Box::pin(invoke::call(
                    invoke,
                    request.message,
                    &call.headers,
                    trace,
                    call.limit,
                ))
                .await
            }
            "GetState" => serve(call, seen, |it| state::get(state, it)).await,
            "GetBulkState" => serve(call, seen, |it| state::bulk(state, it)).await,
            "SaveState" => serve(call, seen, |it| state::save(state, it)).await,
            "DeleteState" => serve(call, seen, |it| state::delete(state, it)).await,
            "DeleteBulkState" => serve(call, seen, |it| state::delete_bulk(state, it)).await,
            "ExecuteStateTransaction" => {
                serve(call, seen, |it| state::transact(state, it, trace.as_ref())).await
            }
            "QueryStateAlpha1" => serve(call, seen, |it| state::query(state, it)).await,
            "PublishEvent" => serve(call, seen, |it| pubsub::publish(pubsub, it, trace)).await,
            "BulkPublishEvent" | "BulkPublishEventAlpha1" => {
                serve(call, seen, |it| pubsub::publish_bulk(pubsub, it, trace)).await
            }
            "GetSecret" => serve(call, seen, |it| secrets::get(secrets, it)).await,
            "GetBulkSecret" => serve(call, seen, |it| secrets::bulk(secrets, it)).await,
            "GetConfiguration" | "GetConfigurationAlpha1" => {
                serve(call, seen, |it| configuration::get(configuration, it)).await
            }
            "UnsubscribeConfiguration" | "UnsubscribeConfigurationAlpha1" => {
                let ended = |it| ready(Ok(configuration::unsubscribe(configuration, &it, &self.log)));
                serve(call, seen, ended).await
            }
            "TryLockAlpha1" => lock::try_lock(lock, call, seen).await,
            "UnlockAlpha1" => serve(call, seen, |it| lock::unlock(lock, it)).await,
            "InvokeBinding" => self.invoke_binding(call, seen, trace).await,
            "GetMetadata" => {
                serve(call, seen, |_: proto::GetMetadataRequest| {
                    ready(Ok(metadata::get(&self.metadata)))
                })
                .await
            }
            "SetMetadata" => serve(call, seen, |it| ready(metadata::set(&self.metadata, &it))).await,
            "Shutdown" => {
                let how = metadata::shutdown(&call.headers);
                let told = |_: proto::ShutdownRequest| {
                    shutdown(how);
                    ready(Ok(()))
                };
                serve(call, seen, told).await
            }
            missing => Err(catalogue::unimplemented(&format!("the method {missing}")).into()),
        }
    }

    /// What a resource says goes into the headers, whether the call went well or not.
    async fn invoke_binding(
        &self,
        call: Inbound,
        seen: &mut Observed,
        trace: Option<Context>,
    ) -> Result<Answer, Failure> {
        let request = unary::read(call.body, call.limit).await?;
        seen.received(&request.message, request.size);
        let (answer, headers) =
            match bindings::invoke(&self.blocks.bindings, request.message, &call.headers, trace).await {
                Ok((told, headers)) => (unary::answer(&told, call.limit)?, headers),
                Err(refused) => {
                    let headers = bindings::shown(&refused.metadata);
                    (Answer::failed(&self.status(refused.error.into())), headers)
                }
            };
        Ok(Answer { headers, ..answer })
    }

    /// Passes a call on, byte by byte in both directions.
    async fn proxy(&self, request: Request<Incoming>) -> Response<Body> {
        let target = match proxy_target(request.headers()) {
            Ok(target) => target,
            Err(refused) => return refusal(&refused),
        };
        let sort = if target == self.app_id {
            Sort::ProxiedHere
        } else {
            Sort::ProxiedAway
        };
        let observed = match Observed::start(&self.sinks, request.uri(), request.headers(), sort) {
            Ok(observed) => observed,
            Err(status) => return status.response(),
        };
        // COMPAT(pkg/diagnostics/grpc_monitoring.go): streams are counted by this name only.
        let counted = request.headers().contains_key("dapr-app-id");
        let trace = observed.context().cloned();
        let excess = Excess::new(self.limit);
        let request = request.map(|body| excess.request(Body::from(body)));
        let answer = self
            .blocks
            .invoke
            .proxy(&target, request, Origin::Api, None, trace.as_ref())
            .await;
        let answer = match (excess.status(), answer) {
            (Some(status), _) => status.response(),
            (None, Ok(answer)) => excess.answer(answer),
            (None, Err(refused)) => refusal(&refused),
        };
        observed.streaming(&self.sinks, answer, counted)
    }

    /// A failure as its caller sees it; use cases' failures are counted and logged.
    fn status(&self, failure: Failure) -> Status {
        match failure {
            Failure::Refused(status) => status,
            Failure::Api(error) => {
                if let Some(errors) = &self.errors {
                    errors.answered(error.code.tag, error.code.category.as_str());
                }
                self.log.debug(&error);
                Status::from(&error)
            }
        }
    }
}

/// One unary method: read its request, run its use case, write the answer.
async fn serve<Asked, Told, F>(
    call: Inbound,
    seen: &mut Observed,
    case: impl FnOnce(Asked) -> F,
) -> Result<Answer, Failure>
where
    Asked: Message + Default + Describe,
    Told: Message,
    F: Future<Output = Result<Told, ApiError>>,
{
    let request = unary::read(call.body, call.limit).await?;
    seen.received(&request.message, request.size);
    let told = case(request.message).await?;
    unary::answer(&told, call.limit)
}

/// The answer to what is no gRPC call at all.
fn not_grpc(request: &Request<Incoming>) -> Option<Response<Body>> {
    let kind = request
        .headers()
        .get(CONTENT_TYPE)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    let status = if request.method() != Method::POST {
        StatusCode::METHOD_NOT_ALLOWED
    } else if !is_grpc(kind) {
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    } else {
        return None;
    };
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    Some(response)
}

/// `application/grpc`, alone or with a suffix or parameters.
fn is_grpc(kind: &[u8]) -> bool {
    kind.split_at_checked(GRPC.len()).is_some_and(|(kind, rest)| {
        kind.eq_ignore_ascii_case(GRPC.as_bytes()) && matches!(rest.first(), None | Some(b'+' | b';'))
    })
}
