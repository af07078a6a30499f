//! The gRPC door, made of what the sidecar has.

use crate::assemble::{Assembled, Context};
use outrigger_api_grpc::Filter;
use outrigger_api_grpc::public::{Blocks, Config, Door, Parts, Shutdown};
use outrigger_daemon::drain::Trigger;
use outrigger_daemon::metrics;
use outrigger_resources::configuration::access::ApiRule;
use outrigger_runtime::admission::Admission;
use std::sync::Arc;

/// `shutdown` is told how to stop.
pub(crate) fn door(
    context: &Context<'_>,
    assembled: &Assembled,
    errors: Option<Arc<metrics::Errors>>,
    api_logging: bool,
    shutdown: Arc<dyn Fn(Shutdown) + Send + Sync>,
    drain: Trigger,
) -> Door {
    let (config, configuration) = (context.config, context.configuration);
    Door::new(
        Config {
            app_id: config.app_id.clone(),
            body_limit: config.body_limit,
            body_patience: config.body_patience,
            api_token: config.api_token.0.clone(),
            filter: Filter::new(
                rules(&configuration.api.allowed),
                rules(&configuration.api.denied),
            ),
            api_logging,
            admission: Admission::new(config.max_requests),
        },
        Parts {
            metadata: assembled.metadata.clone(),
            tracer: context.tracer.clone(),
            metrics: context.grpc_metrics.clone(),
            errors,
            log: context.log.clone(),
        },
        Blocks {
            invoke: assembled.invoke.clone(),
            state: assembled.state.clone(),
            pubsub: assembled.pubsub.clone(),
            secrets: assembled.secrets.clone(),
            configuration: assembled.configuration.clone(),
            lock: assembled.lock.clone(),
            bindings: assembled.bindings.clone(),
            shutdown,
            drain,
        },
    )
}

/// COMPAT(pkg/api/grpc/endpoints.go): the protocol's case matters here.
fn rules(rules: &[ApiRule]) -> impl Iterator<Item = (&str, &str)> {
    rules
        .iter()
        .filter(|rule| rule.protocol == "grpc")
        .map(|rule| (rule.version.as_str(), rule.name.as_str()))
}
