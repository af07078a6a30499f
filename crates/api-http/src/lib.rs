//! The HTTP door: routes to `runtime` calls; the only place with URL paths and HTTP status.
//!
//! A [`Door`] is the service of all connections of an address, on plain hyper. One request is one straight line through
//! [`Door::call`]: route, trace, CORS, token, decode, one use case, encode, metrics and access log. What nothing in the API
//! matches is a service invocation, as in the reference.
//!
//! Invariants
//! - Every request is answered, whatever it contains; refusals name what is wrong.
//! - Request bodies are bounded (`--max-body-size`), and of invocations never collected.
//! - Routing and metrics allocate nothing for paths without escapes.
//!
//! Deliberately absent: policy (that is `runtime`'s), listening and draining (`daemon`'s), and
//! building blocks that this version does not have, whose routes say so (`unavailable.rs`).

mod bindings;
mod configuration;
mod endpoint;
mod error;
mod health;
mod invoke;
mod json;
mod lock;
mod metadata;
mod middleware;
mod path;
mod piped;
mod pubsub;
mod query;
mod reply;
mod router;
mod secrets;
mod serve;
mod state;
mod unavailable;
mod upgrade;

pub use endpoint::Filter;
pub use health::Shutdown;

use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use middleware::cors::Cors;
use middleware::finish::{self, AccessLog, Sinks};
use middleware::limit;
use middleware::token::Token;
use middleware::trace::Trace;
use outrigger_channel::body::Body;
use outrigger_component::middleware::Pipeline;
use outrigger_daemon::drain::Trigger;
use outrigger_daemon::log::Log;
use outrigger_daemon::metrics;
use outrigger_daemon::tasks::Spawner;
use outrigger_daemon::trace::Tracer;
use outrigger_runtime::admission::Admission;
use outrigger_runtime::bindings::Bindings;
use outrigger_runtime::configuration::Configuration;
use outrigger_runtime::health::Health;
use outrigger_runtime::invoke::Invoke;
use outrigger_runtime::lock::Lock;
use outrigger_runtime::metadata::Metadata;
use outrigger_runtime::pubsub::Pubsub;
use outrigger_runtime::secrets::Secrets;
use outrigger_runtime::state::State;
use serve::{Api, Inbound, Shared};
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How the door behaves.
#[derive(Default)]
pub struct Config {
    /// Largest request body in bytes; `None` is no limit.
    pub body_limit: Option<usize>,
    /// How long a request body may pause while more of it is waited for; `None` is for ever.
    pub body_patience: Option<Duration>,
    /// Token that callers must show; empty: none. Never shown.
    pub api_token: String,
    /// `--allowed-origins`; empty: no CORS headers at all.
    pub allowed_origins: String,
    /// Which groups of the API exist.
    pub filter: Filter,
    /// How many requests are worked on at once.
    pub admission: Admission,
    /// Whether HTTP/1.1 clients may change to HTTP/2 by `Upgrade: h2c`. Whether they may begin with HTTP/2 is up to who
    /// accepts the connections.
    pub h2c: bool,
    /// `None`: no access log.
    pub api_logging: Option<ApiLogging>,
    /// `spec.httpPipeline`; `None`: nothing stands between the API token and the routes.
    pub pipeline: Option<Pipeline>,
}

/// What the access log shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ApiLogging {
    /// Names of endpoints instead of paths.
    pub obfuscate_urls: bool,
    pub omit_health_checks: bool,
}

/// What every door needs.
pub struct Parts {
    pub metadata: Arc<Metadata>,
    pub health: Arc<Health>,
    pub tracer: Tracer,
    /// `None`: metrics are off.
    pub metrics: Option<Arc<metrics::Http>>,
    /// `None`: error codes are not counted (`recordErrorCodes`).
    pub errors: Option<Arc<metrics::Errors>>,
    /// Any scope; the door uses `dapr.runtime.http` and `dapr.runtime.http-info`.
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
    /// Called for `POST /v1.0/shutdown`, before the answer leaves. Must not block.
    pub shutdown: Arc<dyn Fn(Shutdown) + Send + Sync>,
    /// Owns connections that changed to HTTP/2.
    pub tasks: Spawner,
    /// Fired when such connections are to end.
    pub drain: Trigger,
}

/// The HTTP API. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Door {
    shared: Arc<Shared>,
}

impl Door {
    /// The door to everything.
    pub fn new(config: Config, parts: Parts, blocks: Blocks) -> Self {
        let access = config.api_logging.map(|logging| AccessLog {
            log: parts.log.scope("dapr.runtime.http-info"),
            obfuscate_urls: logging.obfuscate_urls,
            omit_health_checks: logging.omit_health_checks,
        });
        let api = Api {
            blocks,
            limit: config.body_limit,
            patience: config.body_patience,
            token: Token::new(&config.api_token),
            cors: Cors::new(&config.allowed_origins),
            filter: config.filter,
            admission: config.admission,
            h2c: config.h2c,
            pipeline: config.pipeline,
        };
        Self::with(parts, access, Some(api))
    }

    /// The door of the public port: health checks and metadata, without token, limits or access log.
    pub fn public(parts: Parts) -> Self {
        Self::with(parts, None, None)
    }

    fn with(parts: Parts, access: Option<AccessLog>, api: Option<Api>) -> Self {
        let Parts {
            metadata,
            health,
            tracer,
            metrics,
            errors,
            log,
        } = parts;
        let log = log.scope("dapr.runtime.http");
        let sinks = Arc::new(Sinks { metrics, access });
        Self {
            shared: Arc::new(Shared {
                api,
                metadata,
                health,
                tracer,
                sinks,
                errors,
                log,
            }),
        }
    }

    /// The service of one connection from `peer`, for [`outrigger_daemon::drain::serve::serve`].
    pub fn service(
        &self,
        peer: Option<SocketAddr>,
    ) -> impl Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Send
    + Sync
    + 'static
    + use<> {
        let door = self.clone();
        service_fn(move |request| door.clone().answer(request, peer))
    }

    /// Boxed: a connection keeps room for the future of a request, also while it idles, thousands of times over. And
    /// unnamed, or whoever serves connections would compile all endpoints again.
    fn answer(
        self,
        request: Request<Incoming>,
        peer: Option<SocketAddr>,
    ) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
        Box::pin(async move { Ok(self.call(request, peer).await) })
    }

    /// Serves one request.
    pub async fn call(&self, mut request: Request<Incoming>, peer: Option<SocketAddr>) -> Response<Body> {
        let shared = &*self.shared;
        if let Some(api) = shared.api.as_ref().filter(|api| api.h2c)
            && let Some(switching) = upgrade::begin(self, &mut request, peer, &api.blocks)
        {
            return switching;
        }
        let (head, body) = request.into_parts();
        let (method, uri, headers) = (head.method, head.uri, head.headers);
        let path = match path::decode(uri.path()) {
            Ok(path) => path,
            Err(error) => {
                return error::plain(
                    StatusCode::BAD_REQUEST,
                    &format!("failed to unescape request path: {error}"),
                );
            }
        };
        let clean = path::clean(uri.path());
        let destination = shared.destination(&method, &clean);
        let mut trace = match Trace::start(&shared.tracer, &path, &headers) {
            Ok(trace) => trace,
            Err(error) => {
                return error::plain(
                    StatusCode::BAD_REQUEST,
                    &format!("invalid baggage header: {error}"),
                );
            }
        };
        let mut pending = finish::Request::start(&method, &uri, &headers);
        // Behind a pipeline, what arrives at its end is described.
        if !shared.is_piped() {
            trace.describe(&destination.describe((&method, &uri, &path, &headers), peer));
        }
        let bounds = shared.api.as_ref().map(|api| (api.limit, api.patience));
        let (limit, patience) = bounds.unwrap_or_default();
        let inbound = Inbound {
            method: &method,
            uri: &uri,
            path: &path,
            headers,
            body: limit::limited(body, limit, patience),
        };
        let mut response = shared
            .guarded((destination, peer), inbound, &mut trace, &mut pending)
            .await;
        trace.finish(&mut response);
        pending.finish(&shared.sinks, response)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("body_limit", &self.body_limit)
            .field("body_patience", &self.body_patience)
            .field("api_token", &Token::new(&self.api_token))
            .field("allowed_origins", &self.allowed_origins)
            .field("filter", &self.filter)
            .field("admission", &self.admission)
            .field("h2c", &self.h2c)
            .field("api_logging", &self.api_logging)
            .field("pipeline", &self.pipeline.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests;
