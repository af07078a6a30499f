//! From a request to a use case and back: where it goes, what stands before that, and one line per endpoint.

use crate::endpoint::{Endpoint, Filter, Version};
use crate::middleware::cors::Cors;
use crate::middleware::finish::{self, Sinks};
use crate::middleware::token::Token;
use crate::middleware::trace::{Described, Trace};
use crate::router::{self, Found, Route};
use crate::{
    Blocks, bindings, configuration, error, health, invoke, lock, metadata, path, piped, pubsub, reply,
    secrets, state, unavailable,
};
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use outrigger_channel::body::Body;
use outrigger_component::middleware::Pipeline;
use outrigger_daemon::log::Log;
use outrigger_daemon::metrics;
use outrigger_daemon::trace::Tracer;
use outrigger_runtime::admission::{Admission, Pass};
use outrigger_runtime::catalogue::{Code, invoke as invoke_catalogue};
use outrigger_runtime::error::Result;
use outrigger_runtime::health::Health;
use outrigger_runtime::metadata::Metadata;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What the clones of a door share.
pub(crate) struct Shared {
    /// `None`: the public port, which has health and metadata only.
    pub(crate) api: Option<Api>,
    pub(crate) metadata: Arc<Metadata>,
    pub(crate) health: Arc<Health>,
    pub(crate) tracer: Tracer,
    pub(crate) sinks: Arc<Sinks>,
    pub(crate) errors: Option<Arc<metrics::Errors>>,
    pub(crate) log: Log,
}

/// What the API's own door has.
pub(crate) struct Api {
    pub(crate) blocks: Blocks,
    pub(crate) limit: Option<usize>,
    pub(crate) patience: Option<Duration>,
    pub(crate) token: Token,
    pub(crate) cors: Option<Cors>,
    pub(crate) filter: Filter,
    pub(crate) admission: Admission,
    pub(crate) h2c: bool,
    pub(crate) pipeline: Option<Pipeline>,
}

/// Where a request goes.
pub(crate) enum Destination<'p> {
    Endpoint(Route<'p>),
    Nowhere,
    /// The path exists for other methods.
    OtherMethod,
}

/// A request on its way to a use case.
pub(crate) struct Inbound<'r> {
    pub(crate) method: &'r Method,
    pub(crate) uri: &'r Uri,
    /// The decoded path.
    pub(crate) path: &'r str,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

impl Shared {
    /// Whether middlewares stand before the routes.
    pub(crate) fn is_piped(&self) -> bool {
        self.api.as_ref().is_some_and(|api| api.pipeline.is_some())
    }

    pub(crate) fn destination<'p>(&self, method: &Method, path: &'p str) -> Destination<'p> {
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
            version: Version::V1,
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

    /// What stands between the caller and the endpoint: origins, then the token, then middlewares.
    pub(crate) async fn guarded(
        &self,
        (destination, peer): (Destination<'_>, Option<SocketAddr>),
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
            match &api.pipeline {
                None => self.endpoint(destination, inbound, trace, pending).await,
                // Boxed: in place every request without a pipeline would make room for it.
                Some(pipeline) => Box::pin(piped::serve(self, pipeline, inbound, peer, trace, pending)).await,
            }
        } else {
            error::plain(StatusCode::UNAUTHORIZED, "invalid api token")
        };
        if let Some(cors) = &api.cors {
            cors.decorate(origin, response.headers_mut());
        }
        response
    }

    /// From a route to its answer, failures included.
    pub(crate) async fn endpoint(
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
        let served = match self.admit(route.endpoint) {
            Ok(pass) => {
                pending.hold(pass);
                self.serve(route, inbound, trace, pending).await
            }
            Err(error) => Err(error),
        };
        match served {
            Ok(response) => response,
            Err(error) => {
                self.count(error.code);
                self.log.debug(&error);
                error::response(&error)
            }
        }
    }

    /// A place among the requests that are worked on, for what is work.
    fn admit(&self, endpoint: Endpoint) -> Result<Option<Pass>> {
        match &self.api {
            Some(api) if !is_public(endpoint) && endpoint != Endpoint::Shutdown => {
                api.admission.enter().map(Some)
            }
            _ => Ok(None),
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
            (None, endpoint) => return Err(unavailable::error(endpoint)),
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
                // Boxed: it is by far the largest, and every request of this door would make room for it and move it.
                let outcome = Box::pin(invoke::call(&api.invoke, address, incoming, trace)).await?;
                if outcome.failed {
                    self.count(&invoke_catalogue::FAILED);
                }
                Ok(outcome.response)
            }
            Endpoint::GetState => state::get(&api.state, first, second, query).await,
            Endpoint::SaveState => state::save(&api.state, first, query, body).await,
            Endpoint::DeleteState => state::delete(&api.state, first, second, query, &headers).await,
            Endpoint::GetBulkState => state::bulk(&api.state, first, query, body).await,
            Endpoint::ExecuteStateTransaction => {
                state::transact(&api.state, first, query, body, trace.context()).await
            }
            Endpoint::QueryState => state::query(&api.state, first, query, body).await,
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
            Endpoint::GetConfiguration => configuration::get(&api.configuration, first, query).await,
            Endpoint::SubscribeConfiguration => {
                configuration::subscribe(&api.configuration, first, query).await
            }
            Endpoint::UnsubscribeConfiguration => {
                let (response, failed) = configuration::unsubscribe(&api.configuration, first, second)?;
                failed.into_iter().for_each(|code| self.count(code));
                Ok(response)
            }
            Endpoint::TryLock => lock::try_lock(&api.lock, first, body).await,
            Endpoint::Unlock => lock::unlock(&api.lock, first, body).await,
            Endpoint::InvokeBinding => {
                let answer = bindings::invoke(&api.bindings, first, &headers, body, trace.context()).await?;
                if let bindings::Answer::Refused(refused) = &answer {
                    self.count(refused.error.code);
                    self.log.debug(&refused.error);
                }
                Ok(answer.response())
            }
            Endpoint::Shutdown => {
                (api.shutdown)(health::shutdown(&headers));
                Ok(reply::empty())
            }
            missing => Err(unavailable::error(missing)),
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

impl<'r> Destination<'r> {
    /// The request as tracing shows it.
    pub(crate) fn describe(
        &self,
        (method, uri, path, headers): (&'r Method, &'r Uri, &'r str, &'r HeaderMap),
        peer: Option<SocketAddr>,
    ) -> Described<'r> {
        let (endpoint, component, topic) = match self {
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
}
