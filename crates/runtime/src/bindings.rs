//! Bindings: calls out to resources, and events of resources in to the app.
//!
//! Out: [`Bindings::invoke`] finds the component, checks the operation, and calls it under the component's outbound policy.
//! In: one task per binding (`bindings/read.rs`) asks the app whether it wants the events, reads them, gives each to the app
//! under the inbound policy, does what the app's answer asks for (`bindings/follow_up.rs`), and answers the event.
//!
//! Invariants
//! - An event is answered as taken only after the app took it. Whatever else happens leaves it with its source.
//! - Nothing is queued here: at most [`concurrency`](outrigger_component::binding::Reading::concurrency) events per binding
//!   are in memory; back-pressure is not polling the source.
//! - Nothing is read before the app is ready, while it is unhealthy, or while the sidecar stops.
//!
//! COMPAT(pkg/runtime/processor/binding): texts, names of spans, which answers count as success. Unlike there, an app that
//! could not be asked is asked again, a reading that ends is begun anew, and what the app asks for in its answer is done
//! for HTTP apps and for state, too, as the reference's documentation promises.

mod follow_up;
mod owner;
mod read;
#[cfg(test)]
mod tests;

use crate::catalogue::bindings as catalogue;
use crate::components::snapshot::Live;
use crate::error::ApiError;
use crate::outbound::{self, Input};
use crate::pubsub::publish::Door;
use crate::state::State;
use outrigger_channel::app::AppChannel;
use outrigger_component::binding::{Failed, Invoke, Output};
use outrigger_component::error::{Error, Kind};
use outrigger_component::metadata::Metadata;
use outrigger_daemon::log::Log;
use outrigger_daemon::metrics;
use outrigger_daemon::tasks::Spawner;
use outrigger_daemon::trace::{Context, Tracer};
use outrigger_resiliency::policies::{Flow, Kind as Target, Policies};
use outrigger_resiliency::policy;
use owner::Readers;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// COMPAT(pkg/diagnostics): without a trace, the reference sends one that whoever reads it must ignore.
const NO_TRACE: &str = "00-00000000000000000000000000000000-0000000000000000-00";
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const BAGGAGE: &str = "baggage";

/// The bindings building block.
pub struct Bindings {
    outputs: Arc<Outputs>,
    readers: Readers,
}

/// What [`Bindings`] is made of.
pub struct Parts {
    pub components: Live,
    /// `None` when the sidecar has no app: then nothing is read.
    pub app: Option<Arc<dyn AppChannel>>,
    /// For state that an app's answer asks to save.
    pub state: Arc<State>,
    pub policies: Arc<Policies>,
    pub metrics: Arc<metrics::Component>,
    pub tracer: Tracer,
    /// Scope `dapr.runtime.processor.binding`.
    pub log: Log,
    pub tasks: Spawner,
    /// How long the app may take to say whether it wants a binding's events.
    pub probe_timeout: Duration,
}

/// A call of the app to an output binding.
#[derive(Debug, Clone)]
pub struct Call {
    /// Of the component.
    pub binding: String,
    pub invoke: Invoke,
    /// What the call itself carries beside the request: metadata of a gRPC call.
    pub carried: Metadata,
    pub trace: Option<Context>,
    /// As it came, when it could be read.
    pub baggage: Option<String>,
    pub door: Door,
}

/// Why a call did not succeed, and what the resource said about it.
#[derive(Debug)]
pub struct Refused {
    pub error: ApiError,
    pub metadata: Metadata,
}

impl Bindings {
    /// Nothing is read before [`Bindings::resume`].
    pub fn new(parts: Parts) -> Self {
        let outputs = Arc::new(Outputs {
            components: parts.components.clone(),
            policies: Arc::clone(&parts.policies),
            metrics: Arc::clone(&parts.metrics),
            tracer: parts.tracer.clone(),
        });
        let readers = Readers::start(parts, Arc::clone(&outputs));
        Self { outputs, readers }
    }

    /// Calls an output binding.
    ///
    /// # Errors
    /// [`catalogue::INVOKE`], whatever went wrong.
    pub async fn invoke(&self, call: Call) -> Result<Option<Output>, Refused> {
        let outputs = &self.outputs;
        let Call {
            binding,
            mut invoke,
            carried,
            trace,
            baggage,
            door,
        } = call;
        outputs.add_trace(&mut invoke.metadata, trace.as_ref(), door);
        if let Some(baggage) = baggage {
            invoke.metadata.insert(BAGGAGE, baggage);
        }
        for (name, value) in carried.iter() {
            // COMPAT(pkg/api/grpc/grpc.go): the trace of the call itself is the one that goes on.
            if matches!(name, TRACEPARENT | TRACESTATE) || invoke.metadata.get(name).is_none() {
                invoke.metadata.insert(name, value);
            }
        }
        let started = Instant::now();
        let operation = invoke.operation.clone();
        let outcome = outputs.call(&binding, invoke).await;
        outputs
            .metrics
            .output_binding(&binding, &operation, outcome.is_ok(), started.elapsed());
        outcome.map_err(|failed| Refused {
            error: catalogue::failed(&binding, &failed.error).caused_by(failed.error),
            metadata: failed.metadata,
        })
    }

    /// Begins, or begins again, to read: the app is healthy.
    pub fn resume(&self) {
        self.readers.resume();
    }

    /// Returns once every binding's app has been asked after the first [`Bindings::resume`], well or not.
    pub async fn begun(&self) {
        self.readers.begun().await;
    }

    /// Ends the reading: the app is not healthy. What it holds already is answered if the app does.
    pub fn pause(&self) {
        self.readers.pause();
    }

    /// Ends all reading for good; what the app holds is answered if it does so within `patience`. Returns when it is over.
    pub async fn stop(&self, patience: Duration) {
        self.readers.stop(patience).await;
    }
}

/// Calls to output bindings, of the app and of what it asks for.
struct Outputs {
    components: Live,
    policies: Arc<Policies>,
    metrics: Arc<metrics::Component>,
    tracer: Tracer,
}

impl Outputs {
    async fn call(&self, name: &str, invoke: Invoke) -> Result<Option<Output>, Failed> {
        if invoke.operation.is_empty() {
            return Err(Error::invalid("operation field is missing from request").into());
        }
        let found = self
            .components
            .now()
            .binding(name)
            .and_then(|binding| binding.output.clone());
        let Some(output) = found else {
            return Err(Error::new(Kind::NotFound, format!("couldn't find output binding {name}")).into());
        };
        let operations = output.operations();
        if !operations.contains(&invoke.operation.as_str()) {
            let text = format!(
                "binding {name} does not support operation {}. supported operations:{}",
                invoke.operation,
                operations.join(" ")
            );
            return Err(Error::new(Kind::Unsupported, text).into());
        }
        let policy = self.policies.component(name, Target::Binding, Flow::Outbound);
        let mut input = Input::new(invoke, &policy);
        let outcome = policy
            .run(|_| {
                let attempt = output.invoke(input.take());
                async move {
                    match attempt.await {
                        Ok(answer) => Ok(Ok(answer)),
                        // It answered: no breaker must open for it.
                        Err(failed) if outbound::is_final(failed.error.kind) => Ok(Err(failed)),
                        Err(failed) => Err(Attempt(failed)),
                    }
                }
            })
            .await;
        match outcome {
            Ok(answered) => answered,
            Err(policy::Error::Operation(Attempt(failed))) => Err(failed),
            Err(error @ policy::Error::Timeout) => Err(Error::new(Kind::Timeout, error.to_string()).into()),
            Err(error @ policy::Error::Refused(_)) => {
                Err(Error::new(Kind::Unavailable, error.to_string()).into())
            }
        }
    }

    /// COMPAT(pkg/api/http/http.go, pkg/api/grpc/grpc.go): over HTTP the request's own trace goes before what the metadata
    /// says, over gRPC it is the other way round.
    fn add_trace(&self, metadata: &mut Metadata, trace: Option<&Context>, door: Door) {
        let switched_off = self.tracer.sampler().is_some() && !self.tracer.enabled();
        let mut add = |name: &str, value: &str| {
            if door == Door::Http || metadata.get(name).is_none() {
                metadata.insert(name, value);
            }
        };
        match trace {
            Some(trace) => {
                add(TRACEPARENT, trace.traceparent().as_str());
                if let Some(state) = trace.tracestate() {
                    add(TRACESTATE, state);
                }
            }
            None if door == Door::Http && switched_off => {}
            None => add(TRACEPARENT, NO_TRACE),
        }
    }
}

/// A failed attempt. It carries no status code: components have none, so every failure may be retried.
struct Attempt(Failed);

impl policy::Outcome for Attempt {}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.error.fmt(f)
    }
}
