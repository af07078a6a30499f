//! One input binding: from the app's consent to the answer of each event.

use super::Outputs;
use crate::components::snapshot::Binding;
use crate::life::Halt;
use crate::outbound::Input;
use crate::state::State;
use futures::FutureExt as _;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use outrigger_channel::app::{AppChannel, binding as app};
use outrigger_channel::error::Error as AppError;
use outrigger_component::binding::{Event, InputBinding, Reading};
use outrigger_component::error::{Error, Kind};
use outrigger_component::metadata::Metadata;
use outrigger_daemon::drain;
use outrigger_daemon::log::Log;
use outrigger_daemon::trace::{self, Context, Span};
use outrigger_resiliency::core::retry::Status;
use outrigger_resiliency::policies::{Flow, Kind as Target};
use outrigger_resiliency::policy;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Pauses between attempts to ask the app and to read.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What every reader needs.
pub(super) struct Surroundings {
    pub(super) app: Arc<dyn AppChannel>,
    pub(super) log: Log,
    pub(super) probe_timeout: Duration,
    pub(super) state: Arc<State>,
    pub(super) outputs: Arc<Outputs>,
}

pub(super) struct Reader {
    pub(super) surroundings: Arc<Surroundings>,
    binding: Arc<Binding>,
    input: Arc<dyn InputBinding>,
    /// Name of its spans.
    span: String,
    halt: watch::Receiver<Halt>,
}

/// Why an event did not get through.
#[derive(Debug)]
enum Undelivered {
    /// The app answered well, but not with the one status that policies count as a success.
    Unusual(app::Reply),
    App(AppError),
}

impl Reader {
    pub(super) fn new(
        surroundings: Arc<Surroundings>,
        binding: Arc<Binding>,
        input: Arc<dyn InputBinding>,
        halt: watch::Receiver<Halt>,
    ) -> Self {
        Self {
            span: format!("bindings/{}", binding.name),
            surroundings,
            binding,
            input,
            halt,
        }
    }

    /// Runs until it is halted, or until the app says that it does not want the events. `asked` is dropped once the app
    /// has been asked.
    pub(super) async fn run(&self, asked: drain::Watch) {
        let mut asked = Some(asked);
        let mut pause = FIRST_PAUSE;
        let log = &self.surroundings.log;
        let name = &self.binding.name;
        let mut wanted = self.binding.declared_input;
        loop {
            let began = Instant::now();
            if !wanted {
                let answer = tokio::select! {
                    answer = self.ask() => answer,
                    () = self.halted() => return,
                };
                match answer {
                    Ok(true) => wanted = true,
                    Ok(false) => {
                        log.info(format_args!("app has not subscribed to binding {name}."));
                        return;
                    }
                    Err(error) => log.warn(format_args!(
                        "failed to read from bindings: could not ask the app about binding {name}, which is at {:?}: {error}",
                        self.binding.route
                    )),
                }
            }
            drop(asked.take());
            if wanted {
                let reading = tokio::select! {
                    reading = self.input.read() => reading,
                    () = self.halted() => return,
                };
                match reading {
                    // A panic leaves what was held unanswered; the reader keeps nothing that it could have left half done.
                    Ok(reading) => match AssertUnwindSafe(self.pump(reading)).catch_unwind().await {
                        Ok(true) => return,
                        Ok(false) => log.warn(format_args!(
                            "input binding {name} ended by itself: reading again"
                        )),
                        Err(_panic) => log.error(format_args!(
                            "reading from input binding {name} panicked, which is a mistake in Outrigger: reading again"
                        )),
                    },
                    Err(error) => log.error(format_args!(
                        "error reading from input binding {name}: {error}"
                    )),
                }
            }
            if began.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = self.halted() => return,
            }
        }
    }

    async fn ask(&self) -> Result<bool, AppError> {
        let limit = self.surroundings.probe_timeout;
        let asking = self
            .surroundings
            .app
            .takes(&self.binding.name, &self.binding.route);
        tokio::time::timeout(limit, asking)
            .await
            .unwrap_or(Err(AppError::Timeout(limit)))
    }

    async fn halted(&self) {
        let mut halt = self.halt.clone();
        // A sender that is gone is an owner that is gone: nobody wants us to go on.
        let _halted = halt.wait_for(Option::is_some).await;
    }

    /// Gives events to the app. True when it was halted, false when the source ended.
    async fn pump(&self, reading: Reading) -> bool {
        let Reading {
            mut events,
            concurrency,
        } = reading;
        let most = concurrency.max(1);
        let mut open = true;
        let mut held = FuturesUnordered::new();
        {
            let mut halted = std::pin::pin!(self.halted());
            loop {
                if !open && held.is_empty() {
                    return false;
                }
                tokio::select! {
                    biased;
                    () = &mut halted => break,
                    Some(()) = held.next() => {}
                    next = events.next(), if open && held.len() < most => match next {
                        Some(event) => held.push(self.handle(event)),
                        None => open = false,
                    },
                }
            }
        }
        // Answers still have to reach the source: it goes on, but nothing more is taken from it.
        let mut halt = self.halt.clone();
        loop {
            let until = halt.borrow_and_update().unwrap_or_else(Instant::now);
            tokio::select! {
                next = held.next() => if next.is_none() {
                    return true;
                },
                () = tokio::time::sleep_until(until) => return true,
                Ok(()) = halt.changed() => {}
            }
        }
    }

    async fn handle(&self, mut event: Event) {
        let started = Instant::now();
        let (data, metadata) = (
            std::mem::take(&mut event.data),
            std::mem::take(&mut event.metadata),
        );
        let name = &self.binding.name;
        let outcome = self.deliver(data, metadata).await;
        let outcome = match outcome {
            Ok(reply) => {
                self.follow_up(reply.follow_up).await;
                Ok(reply.data)
            }
            Err(text) => {
                self.surroundings.log.warn(format_args!(
                    "error from app consumer for binding [{name}]: {text}"
                ));
                Err(Error::new(Kind::Unavailable, text))
            }
        };
        self.surroundings
            .outputs
            .metrics
            .input_binding(name, outcome.is_ok(), started.elapsed());
        event.settle(outcome);
    }

    /// Under the inbound policy.
    async fn deliver(&self, data: bytes::Bytes, metadata: Metadata) -> Result<app::Reply, String> {
        let outputs = &self.surroundings.outputs;
        let parent = parent(&metadata);
        let mut span = if parent.is_some() || outputs.tracer.enabled() {
            outputs
                .tracer
                .start(&self.span, trace::Kind::Client, parent.as_ref())
        } else {
            Span::none()
        };
        let name = &self.binding.name;
        let event = app::Event {
            name: name.clone(),
            route: self.binding.route.clone(),
            data,
            metadata,
            trace: span.context().cloned(),
        };
        let policy = outputs.policies.component(name, Target::Binding, Flow::Inbound);
        let mut input = Input::new(event, &policy);
        let outcome = policy.run(|_| self.attempt(input.take())).await;
        span.text("db.name", name);
        span.text("db.system", "bindings");
        span.text("rpc.service", "Dapr");
        if span.is_recording() {
            span.text("db.connection_string", &target(name, &outcome));
        }
        let failure = match outcome {
            Ok(reply) | Err(policy::Error::Operation(Undelivered::Unusual(reply))) => return Ok(reply),
            // It says all by itself.
            Err(policy::Error::Operation(Undelivered::App(error @ AppError::Http { .. }))) => {
                error.to_string()
            }
            Err(error) => format!("error invoking app: {error}"),
        };
        span.fail(&failure);
        Err(failure)
    }

    async fn attempt(&self, event: app::Event) -> Result<app::Reply, Undelivered> {
        let reply = self
            .surroundings
            .app
            .trigger(event)
            .await
            .map_err(Undelivered::App)?;
        match reply.status {
            None | Some(200) => Ok(reply),
            Some(_) => Err(Undelivered::Unusual(reply)),
        }
    }
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusual(reply) => write!(
                f,
                "error sending binding event to application, status {}",
                reply.status.unwrap_or_default()
            ),
            Self::App(error) => error.fmt(f),
        }
    }
}

impl policy::Outcome for Undelivered {
    fn status(&self) -> Option<Status> {
        match self {
            Self::Unusual(reply) => reply.status.map(Status::Http),
            Self::App(AppError::Http { status, .. }) => Some(Status::Http(*status)),
            Self::App(AppError::Status { code, .. }) => u16::try_from(*code).ok().map(Status::Grpc),
            Self::App(_) => None,
        }
    }
}

/// What was called, as spans show it; empty when the app could not be reached.
fn target(name: &str, outcome: &Result<app::Reply, policy::Error<Undelivered>>) -> String {
    let http = match outcome {
        Ok(reply) => reply.status.is_some(),
        Err(policy::Error::Operation(Undelivered::Unusual(_) | Undelivered::App(AppError::Http { .. }))) => {
            true
        }
        Err(policy::Error::Operation(Undelivered::App(
            AppError::Status { .. } | AppError::Unimplemented(_),
        ))) => false,
        Err(_) => return String::new(),
    };
    if http {
        format!("POST /{name}")
    } else {
        "/dapr.proto.runtime.v1.AppCallback/OnBindingEvent".to_owned()
    }
}

/// The trace that an event continues.
fn parent(metadata: &Metadata) -> Option<Context> {
    if let Some(binary) = metadata.get("grpc-trace-bin") {
        return Context::from_binary(binary.as_bytes());
    }
    Context::from_headers(metadata.get(super::TRACEPARENT)?, metadata.get(super::TRACESTATE))
}
