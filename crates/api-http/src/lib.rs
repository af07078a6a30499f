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
//! Deliberately absent: policy (that is `runtime`'s), listening and draining (`daemon`'s), HTTP middleware components, and
//! building blocks that this version does not have, whose routes say so (`unavailable.rs`).

mod endpoint;
mod error;
mod health;
mod invoke;
mod json;
mod metadata;
mod middleware;
mod path;
mod pubsub;
mod query;
mod reply;
mod router;
mod secrets;
mod state;
mod unavailable;
mod upgrade;

pub use endpoint::Filter;
pub use health::Shutdown;

use endpoint::Endpoint;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use middleware::cors::Cors;
use middleware::finish::{self, AccessLog, Sinks};
use middleware::limit;
use middleware::token::Token;
use middleware::trace::{Described, Trace};
use outrigger_channel::body::Body;
use outrigger_daemon::drain::Trigger;
use outrigger_daemon::log::Log;
use outrigger_daemon::metrics;
use outrigger_daemon::tasks::Spawner;
use outrigger_daemon::trace::Tracer;
use outrigger_runtime::catalogue::{Code, invoke as invoke_catalogue};
use outrigger_runtime::error::Result;
use outrigger_runtime::health::Health;
use outrigger_runtime::invoke::Invoke;
use outrigger_runtime::metadata::Metadata;
use outrigger_runtime::pubsub::Pubsub;
use outrigger_runtime::secrets::Secrets;
use outrigger_runtime::state::State;
use router::{Found, Route};
use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// How the door behaves.
#[derive(Default)]
pub struct Config {
    /// Largest request body in bytes; `None` is no limit.
    pub body_limit: Option<usize>,
    /// Token that callers must show; empty: none. Never shown.
    pub api_token: String,
    /// `--allowed-origins`; empty: no CORS headers at all.
    pub allowed_origins: String,
    /// Which groups of the API exist.
    pub filter: Filter,
    /// Whether HTTP/1.1 clients may change to HTTP/2 by `Upgrade: h2c`. Whether they may begin with HTTP/2 is up to who
    /// accepts the connections.
    pub h2c: bool,
    /// `None`: no access log.
    pub api_logging: Option<ApiLogging>,
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

struct Shared {
    /// `None`: the public port, which has health and metadata only.
    api: Option<Api>,
    metadata: Arc<Metadata>,
    health: Arc<Health>,
    tracer: Tracer,
    sinks: Arc<Sinks>,
    errors: Option<Arc<metrics::Errors>>,
    log: Log,
}

struct Api {
    blocks: Blocks,
    limit: Option<usize>,
    token: Token,
    cors: Option<Cors>,
    filter: Filter,
    h2c: bool,
}

/// Where a request goes.
enum Destination<'p> {
    Endpoint(Route<'p>),
    Nowhere,
    /// The path exists for other methods.
    OtherMethod,
}

/// A request on its way to a use case.
struct Inbound<'r> {
    method: &'r Method,
    uri: &'r Uri,
    /// The decoded path.
    path: &'r str,
    headers: HeaderMap,
    body: Body,
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
            token: Token::new(&config.api_token),
            cors: Cors::new(&config.allowed_origins),
            filter: config.filter,
            h2c: config.h2c,
        };
        Self::with(parts, access, Some(api))
    }

    /// The door of the public port: health checks and metadata, without token, limit or access log.
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
        service_fn(move |request| {
            let door = door.clone();
            async move { Ok(door.call(request, peer).await) }
        })
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
        trace.describe(&described(&destination, (&method, &uri, &path, &headers), peer));
        let limit = shared.api.as_ref().and_then(|api| api.limit);
        let inbound = Inbound {
            method: &method,
            uri: &uri,
            path: &path,
            headers,
            body: limit::limited(body, limit),
        };
        let mut response = shared
            .guarded(destination, inbound, &mut trace, &mut pending)
            .await;
        trace.finish(&mut response);
        pending.finish(&shared.sinks, response)
    }
}

impl Shared {
    fn destination<'p>(&self, method: &Method, path: &'p str) -> Destination<'p> {
        let found = router::find(method, path);
        let Some(api) = &self.api else {
            return match found {
                Found::Route(route) if is_public(route.endpoint) => Destination::Endpoint(route),
                Found::OtherMethod
                    if path.starts_with("/v1.0/metadata") || path.starts_with("/v1.0/healthz") =>
                {
                    Destination::OtherMethod
                }
                _ => Destination::Nowhere,
            };
        };
        if let Found::Route(route) = found
            && api.filter.has(route.version, route.endpoint)
        {
            return Destination::Endpoint(route);
        }
        let fallback = Route {
            endpoint: Endpoint::InvokeService,
            version: endpoint::Version::V1,
            first: "",
            second: "",
        };
        if api.filter.has(fallback.version, fallback.endpoint) {
            return Destination::Endpoint(fallback);
        }
        match found {
            Found::OtherMethod => Destination::OtherMethod,
            _ => Destination::Nowhere,
        }
    }

    /// What stands between the caller and the endpoint: origins, then the token.
    async fn guarded(
        &self,
        destination: Destination<'_>,
        mut inbound: Inbound<'_>,
        trace: &mut Trace,
        pending: &mut finish::Request,
    ) -> Response<Body> {
        let Some(api) = &self.api else {
            return self.endpoint(destination, inbound, trace, pending).await;
        };
        let mut origin = None;
        if let Some(cors) = &api.cors {
            if let Some(answer) = cors.preflight(inbound.method, &inbound.headers) {
                return answer;
            }
            origin = cors.allows(inbound.method, &inbound.headers);
        }
        let mut response = if api
            .token
            .admits(inbound.method, inbound.uri.path(), &mut inbound.headers)
        {
            self.endpoint(destination, inbound, trace, pending).await
        } else {
            error::plain(StatusCode::UNAUTHORIZED, "invalid api token")
        };
        if let Some(cors) = &api.cors {
            cors.decorate(origin, response.headers_mut());
        }
        response
    }

    async fn endpoint(
        &self,
        destination: Destination<'_>,
        inbound: Inbound<'_>,
        trace: &mut Trace,
        pending: &mut finish::Request,
    ) -> Response<Body> {
        let endpoint = match &destination {
            Destination::Endpoint(route) => Some(route.endpoint),
            Destination::Nowhere | Destination::OtherMethod => None,
        };
        pending.log(&self.sinks, endpoint, &inbound.headers);
        let route = match destination {
            Destination::Endpoint(route) => route,
            Destination::Nowhere => return error::plain(StatusCode::NOT_FOUND, "404 page not found"),
            Destination::OtherMethod => return reply::status(StatusCode::METHOD_NOT_ALLOWED),
        };
        match self.serve(route, inbound, trace, pending).await {
            Ok(response) => response,
            Err(error) => {
                self.count(error.code);
                self.log.debug(&error);
                error::response(&error)
            }
        }
    }

    /// Decode, one use case, encode.
    async fn serve(
        &self,
        route: Route<'_>,
        inbound: Inbound<'_>,
        trace: &mut Trace,
        pending: &mut finish::Request,
    ) -> Result<Response<Body>> {
        let Inbound {
            method,
            uri,
            path,
            mut headers,
            body,
        } = inbound;
        let query = uri.query();
        let (first, second) = (&*parameter(route.first), &*parameter(route.second));
        let api = match (&self.api, route.endpoint) {
            (_, Endpoint::Healthz) => return health::ready(&self.health, query),
            (_, Endpoint::HealthzOutbound) => return health::outbound(&self.health),
            (_, Endpoint::GetMetadata) => return Ok(metadata::get(&self.metadata)),
            (_, Endpoint::PutMetadata) => return metadata::put(&self.metadata, first, body).await,
            (Some(api), _) => &api.blocks,
            (None, endpoint) => return Err(unavailable::error(endpoint, first)),
        };
        match route.endpoint {
            Endpoint::InvokeService => {
                let address = invoke::address(path, &mut headers)?;
                trace.invokes(&address.app, &address.method);
                pending.invokes(&address.app);
                let incoming = invoke::Incoming {
                    method,
                    query: query.unwrap_or_default(),
                    headers,
                    body,
                };
                let outcome = invoke::call(&api.invoke, address, incoming, trace).await?;
                if outcome.failed {
                    self.count(&invoke_catalogue::FAILED);
                }
                Ok(outcome.response)
            }
            Endpoint::GetState => state::get(&api.state, first, second, query).await,
            Endpoint::SaveState => state::save(&api.state, first, query, body).await,
            Endpoint::DeleteState => state::delete(&api.state, first, second, query, &headers).await,
            Endpoint::GetBulkState => state::bulk(&api.state, first, query, body).await,
            Endpoint::ExecuteStateTransaction => state::transact(&api.state, first, query, body).await,
            Endpoint::QueryState => Err(state::query(&api.state, first)),
            Endpoint::PublishEvent => {
                pubsub::publish(
                    &api.pubsub,
                    (first, second),
                    query,
                    &headers,
                    body,
                    trace.context(),
                )
                .await
            }
            Endpoint::BulkPublishEvent => {
                let answer =
                    pubsub::publish_bulk(&api.pubsub, (first, second), query, body, trace.context()).await?;
                if let pubsub::Answer::Some(rejected) = &answer {
                    self.count(rejected.error.code);
                }
                Ok(answer.response())
            }
            Endpoint::GetSecret => secrets::get(&api.secrets, first, second, query).await,
            Endpoint::GetBulkSecret => secrets::bulk(&api.secrets, first, query).await,
            Endpoint::Shutdown => {
                (api.shutdown)(health::shutdown(&headers));
                Ok(reply::empty())
            }
            missing => Err(unavailable::error(missing, first)),
        }
    }

    fn count(&self, code: &Code) {
        if let Some(errors) = &self.errors {
            errors.answered(code.tag, code.category.as_str());
        }
    }
}

fn is_public(endpoint: Endpoint) -> bool {
    matches!(endpoint.group(), "metadata" | "healthz")
}

/// A path parameter as its use case gets it.
fn parameter(text: &str) -> Cow<'_, str> {
    path::decode_parameter(text).expect("the path was decoded as a whole before")
}

fn described<'r>(
    destination: &Destination<'r>,
    (method, uri, path, headers): (&'r Method, &'r Uri, &'r str, &'r HeaderMap),
    peer: Option<SocketAddr>,
) -> Described<'r> {
    let (endpoint, component, topic) = match destination {
        Destination::Endpoint(route) => (Some(route.endpoint), route.first, route.second),
        Destination::Nowhere | Destination::OtherMethod => (None, "", ""),
    };
    let target = uri.path_and_query().map_or(path, |target| target.as_str());
    Described {
        method,
        path,
        target,
        headers,
        endpoint,
        component,
        topic,
        peer,
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("body_limit", &self.body_limit)
            .field("api_token", &Token::new(&self.api_token))
            .field("allowed_origins", &self.allowed_origins)
            .field("filter", &self.filter)
            .field("h2c", &self.h2c)
            .field("api_logging", &self.api_logging)
            .finish()
    }
}

#[cfg(test)]
mod tests;
