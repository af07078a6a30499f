//! Distributed tracing: trace context on the wire, spans, sampling, and a bounded way out to collectors.
//!
//! A [`Tracer`] is a value handed down. [`Tracer::start`] begins a [`Span`]; dropping the span ends it. A span that is
//! not sampled carries its context for the next hop and nothing else: no allocation, no clock, no queue.
//!
//! INVARIANT: tracing never holds up or grows the process: a sampled span that has ended goes into a bounded queue or is
//! dropped and counted; the [`export::Pump`] takes spans from there.
//!
//! COMPAT(pkg/diagnostics/tracing.go): the sampler is parent-based with a ratio for roots; without an exporter and without
//! a sampling rate there is no tracing at all and incoming context is passed on as it came.

pub mod baggage;
mod context;
pub mod export;
mod sampler;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::Instant;

pub use self::context::{Context, Traceparent};
pub use self::sampler::Sampler;
use crate::log::Log;

/// Makes spans. Clones share sampler and queue.
#[derive(Clone)]
pub struct Tracer {
    shared: Option<Arc<Shared>>,
}

struct Shared {
    sampler: Sampler,
    sink: Option<Arc<Sink>>,
}

/// The way to the exporters.
struct Sink {
    queue: mpsc::Sender<Box<Finished>>,
    /// Spans that found the queue full.
    dropped: AtomicU64,
}

/// What a tracer is made with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `spec.tracing.samplingRate` as written. With no rate and no exporter there is no tracing.
    pub sampling_rate: Option<String>,
    /// `service.name` of the resource: the app id unless overridden.
    pub service: String,
    /// Further attributes of the resource.
    pub resource: Vec<(String, String)>,
    pub exporters: Vec<export::Settings>,
}

/// The part a span plays in its exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

/// Value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Integer(i64),
    Bool(bool),
}

/// An operation under way. Dropping it ends it.
#[derive(Debug)]
#[must_use = "dropping a span ends it"]
pub struct Span {
    context: Option<Context>,
    recording: Option<Box<Recording>>,
}

struct Recording {
    sink: Arc<Sink>,
    started: Instant,
    span: Finished,
}

/// A sampled span that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    pub context: Context,
    /// Span id of the parent, 0 for a root.
    pub parent: u64,
    pub name: String,
    pub kind: Kind,
    pub start: SystemTime,
    pub duration: Duration,
    pub attributes: Vec<(Cow<'static, str>, Value)>,
    /// Attributes beyond the limit.
    pub dropped_attributes: u32,
    pub status: Status,
}

/// How an operation went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Status {
    #[default]
    Unset,
    Ok,
    /// With a description for people.
    Error(String),
}

/// Spans that may wait for the exporters. COMPAT(OpenTelemetry SDK): its default.
const QUEUE: usize = 2048;
/// Attributes of one span. COMPAT(OpenTelemetry SDK): its default.
const MAX_ATTRIBUTES: usize = 128;

impl Tracer {
    /// A tracer that makes no spans and passes incoming context on.
    pub fn off() -> Self {
        Self { shared: None }
    }

    /// A tracer, and the pump to run if there is an exporter.
    ///
    /// # Errors
    /// An exporter that cannot be set up, see [`export::Error`].
    pub fn new(settings: &Settings, log: &Log) -> Result<(Self, Option<export::Pump>), export::Error> {
        if settings.exporters.is_empty() && settings.sampling_rate.is_none() {
            return Ok((Self::off(), None));
        }
        let log = log.scope("dapr.runtime.trace");
        let sampler = Sampler::parse(settings.sampling_rate.as_deref());
        let (sink, pump) = if settings.exporters.is_empty() {
            (None, None)
        } else {
            let (queue, spans) = mpsc::channel(QUEUE);
            let sink = Arc::new(Sink {
                queue,
                dropped: AtomicU64::new(0),
            });
            let pump = export::Pump::new(settings, spans, Arc::clone(&sink), log)?;
            (Some(sink), Some(pump))
        };
        Ok((
            Self {
                shared: Some(Arc::new(Shared { sampler, sink })),
            },
            pump,
        ))
    }

    /// Begins a span. The name is copied only if the span is sampled.
    pub fn start(&self, name: &str, kind: Kind, parent: Option<&Context>) -> Span {
        let Some(shared) = &self.shared else {
            return Span {
                context: parent.cloned(),
                recording: None,
            };
        };
        let trace_id = parent.map_or_else(|| random(rand::random::<u128>, 0), Context::trace_id);
        let sampled = shared.sampler.samples(trace_id, parent);
        let span_id = random(rand::random::<u64>, 0);
        let context = Context::child(trace_id, span_id, sampled, parent);
        let recording = match &shared.sink {
            Some(sink) if sampled => Some(Box::new(Recording {
                sink: Arc::clone(sink),
                started: Instant::now(),
                span: Finished {
                    context: context.clone(),
                    parent: parent.map_or(0, Context::span_id),
                    name: name.to_owned(),
                    kind,
                    start: SystemTime::now(),
                    duration: Duration::ZERO,
                    attributes: Vec::new(),
                    dropped_attributes: 0,
                    status: Status::Unset,
                },
            })),
            _ => None,
        };
        Span {
            context: Some(context),
            recording,
        }
    }

    /// Whether new traces may be sampled. Callers that would start a trace nobody asked for (deliveries, triggers) skip
    /// it when this is false.
    pub fn enabled(&self) -> bool {
        self.shared
            .as_ref()
            .is_some_and(|shared| !shared.sampler.is_off())
    }

    /// The sampler's description, for the start-up log line.
    pub fn sampler(&self) -> Option<&Sampler> {
        self.shared.as_ref().map(|shared| &shared.sampler)
    }

    /// Spans lost so far because the queue was full.
    pub fn dropped(&self) -> u64 {
        let sink = self.shared.as_ref().and_then(|shared| shared.sink.as_ref());
        sink.map_or(0, |sink| sink.dropped.load(Ordering::Relaxed))
    }
}

impl Span {
    /// A span that is none, for code paths without tracing.
    pub fn none() -> Self {
        Self {
            context: None,
            recording: None,
        }
    }

    /// What the next hop should get. `None` when tracing is off and nothing came in.
    pub fn context(&self) -> Option<&Context> {
        self.context.as_ref()
    }

    /// Whether attributes are kept; lets callers skip computing them.
    pub fn is_recording(&self) -> bool {
        self.recording.is_some()
    }

    /// Sets an attribute. Free when not recording, apart from building the value.
    pub fn set(&mut self, key: impl Into<Cow<'static, str>>, value: impl Into<Value>) {
        let Some(recording) = &mut self.recording else {
            return;
        };
        let (key, value) = (key.into(), value.into());
        let span = &mut recording.span;
        if let Some((_, present)) = span.attributes.iter_mut().find(|(present, _)| *present == key) {
            *present = value;
        } else if span.attributes.len() < MAX_ATTRIBUTES {
            span.attributes.push((key, value));
        } else {
            span.dropped_attributes = span.dropped_attributes.saturating_add(1);
        }
    }

    /// Sets a text attribute, copied only when recording; empty texts are left out.
    pub fn text(&mut self, key: &'static str, value: &str) {
        if self.is_recording() && !value.is_empty() {
            self.set(key, value);
        }
    }

    pub fn rename(&mut self, name: &str) {
        if let Some(recording) = &mut self.recording {
            name.clone_into(&mut recording.span.name);
        }
    }

    /// Marks the operation as failed, with a description for people.
    pub fn fail(&mut self, description: impl Display) {
        if let Some(recording) = &mut self.recording {
            recording.span.status = Status::Error(description.to_string());
        }
    }

    pub fn succeed(&mut self) {
        if let Some(recording) = &mut self.recording {
            recording.span.status = Status::Ok;
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(recording) = self.recording.take() else {
            return;
        };
        let Recording {
            sink,
            started,
            mut span,
        } = *recording;
        span.duration = started.elapsed();
        if sink.queue.try_send(Box::new(span)).is_err() {
            // Full, or the pump has ended: either way this span is not seen.
            sink.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording")
            .field("span", &self.span)
            .finish_non_exhaustive()
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Integer(number.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Integer(number) => number.fmt(f),
            Self::Bool(value) => value.fmt(f),
        }
    }
}

/// Ids are never zero: that means "none" on the wire.
fn random<T: PartialEq>(draw: impl Fn() -> T, zero: T) -> T {
    loop {
        let id = draw();
        if id != zero {
            return id;
        }
    }
}
