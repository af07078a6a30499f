//! `component/…`: operations on components, and messages through them.
//!
//! COMPAT(pkg/diagnostics/component_monitoring.go): names, help texts and labels.

use std::time::Duration;

use super::{Counter, Family, Label, Registry, Timed};

/// Families of what the sidecar does with its components. Latencies are those of the component, or of the app where
/// the component calls in.
pub struct Component {
    state: Timed<3>,
    secret: Timed<3>,
    configuration: Timed<3>,
    output_binding: Timed<3>,
    input_binding: Timed<2>,
    egress: Timed<3>,
    egress_bulk: Timed<3>,
    egress_bulk_events: Family<Counter, 3>,
    ingress: Timed<4>,
    ingress_bulk: Timed<3>,
    ingress_bulk_events: Family<Counter, 3>,
}

/// What became of a message from a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessStatus {
    Success,
    Retry,
    Drop,
}

/// One message that arrived from a broker.
#[derive(Clone, Copy, Debug)]
pub struct Ingress<'a> {
    pub component: &'a str,
    pub topic: &'a str,
    pub outcome: ProcessStatus,
    /// Label `status` where it differs from the outcome: a message that the app asked to drop counts as `drop` that
    /// ended in `success`.
    pub status: Option<ProcessStatus>,
    /// How long the app took; `None` when it was not asked.
    pub elapsed: Option<Duration>,
}

const COMPONENT: Label = Label::open("component");
const TOPIC: Label = Label::open("topic");
const OPERATION: Label = Label::closed("operation");
/// The operations of output bindings are the component author's.
const FREE_OPERATION: Label = Label::open("operation");
const SUCCESS: Label = Label::closed("success");
const PROCESS_STATUS: Label = Label::closed("process_status");
const STATUS: Label = Label::closed("status");

impl Component {
    /// Declares the families; all carry `namespace`.
    pub fn new(registry: &Registry, namespace: &str) -> Self {
        let registry = &registry.labelled("namespace", namespace);
        let operations = |name: &str, operation: Label| {
            timed(
                registry,
                &format!("component/{name}"),
                &format!("The number of operations performed on the {name} component."),
                &format!("The latency of the response from the {name} component."),
                [COMPONENT, operation, SUCCESS],
            )
        };
        Self {
            state: operations("state", OPERATION),
            secret: operations("secret", OPERATION),
            configuration: operations("configuration", OPERATION),
            output_binding: timed(
                registry,
                "component/output_binding",
                "The number of operations invoked on the output binding component.",
                "The latency of the response from the output binding component.",
                [COMPONENT, FREE_OPERATION, SUCCESS],
            ),
            input_binding: timed(
                registry,
                "component/input_binding",
                "The number of incoming events arriving from the input binding component.",
                "The triggered app event processing latency.",
                [COMPONENT, SUCCESS],
            ),
            egress: timed(
                registry,
                "component/pubsub_egress",
                "The number of outgoing messages published to the pub/sub component.",
                "The latency of the response from the pub/sub component.",
                [COMPONENT, SUCCESS, TOPIC],
            ),
            egress_bulk: timed(
                registry,
                "component/pubsub_egress/bulk",
                "The number of bulk publish calls to the pub/sub component.",
                "The latency of the response for the bulk publish call from the pub/sub component.",
                [COMPONENT, SUCCESS, TOPIC],
            ),
            egress_bulk_events: registry.counter(
                "component/pubsub_egress/bulk/event_count",
                "The number of outgoing messages to the pub/sub component published through bulk publish API.",
                [COMPONENT, SUCCESS, TOPIC],
            ),
            ingress: timed(
                registry,
                "component/pubsub_ingress",
                "The number of incoming messages arriving from the pub/sub component.",
                "The consuming app event processing latency.",
                [COMPONENT, PROCESS_STATUS, STATUS, TOPIC],
            ),
            ingress_bulk: timed(
                registry,
                "component/pubsub_ingress/bulk",
                "The number of incoming bulk subscribe calls arriving from the bulk pub/sub component.",
                "The consuming app event processing latency for the bulk pub/sub component.",
                [COMPONENT, PROCESS_STATUS, TOPIC],
            ),
            ingress_bulk_events: registry.counter(
                "component/pubsub_ingress/bulk/event_count",
                "Total number of incoming messages arriving from the bulk pub/sub component via Bulk Subscribe.",
                [COMPONENT, PROCESS_STATUS, TOPIC],
            ),
        }
    }

    /// An operation on a state store: `get`, `set`, `delete`, `bulk_get`, `bulk_delete`, `query` or `transaction`.
    pub fn state(&self, component: &str, operation: &'static str, success: bool, elapsed: Duration) {
        self.state.record([component, operation, word(success)], elapsed);
    }

    /// An operation on a secret store: `get` or `bulk_get`.
    pub fn secret(&self, component: &str, operation: &'static str, success: bool, elapsed: Duration) {
        self.secret.record([component, operation, word(success)], elapsed);
    }

    /// An operation on a configuration store: `get`, `subscribe` or `unsubscribe`.
    pub fn configuration(&self, component: &str, operation: &'static str, success: bool, elapsed: Duration) {
        self.configuration
            .record([component, operation, word(success)], elapsed);
    }

    /// A call to an output binding.
    pub fn output_binding(&self, component: &str, operation: &str, success: bool, elapsed: Duration) {
        self.output_binding
            .record([component, operation, word(success)], elapsed);
    }

    /// An event of an input binding, handled by the app.
    pub fn input_binding(&self, component: &str, success: bool, elapsed: Duration) {
        self.input_binding.record([component, word(success)], elapsed);
    }

    /// A message published.
    pub fn published(&self, component: &str, topic: &str, success: bool, elapsed: Duration) {
        self.egress.record([component, word(success), topic], elapsed);
    }

    /// A bulk publish of which `events` messages were accepted.
    pub fn published_bulk(
        &self,
        component: &str,
        topic: &str,
        success: bool,
        events: u64,
        elapsed: Duration,
    ) {
        self.egress_bulk
            .record([component, word(success), topic], elapsed);
        if events > 0 {
            // The reference loses `success` and `topic` of this family to a mistyped argument; we show them.
            self.egress_bulk_events
                .with([component, word(true), topic])
                .add(events);
        }
    }

    /// A message that arrived.
    pub fn delivered(&self, message: Ingress<'_>) {
        let outcome = message.outcome.word();
        let status = message.status.map_or(outcome, ProcessStatus::word);
        let labels = [message.component, outcome, status, message.topic];
        match message.elapsed {
            Some(elapsed) => self.ingress.record(labels, elapsed),
            None => self.ingress.count(labels),
        }
    }

    /// A bulk of messages that arrived; `events` says how many of them ended how.
    pub fn delivered_bulk(
        &self,
        component: &str,
        topic: &str,
        events: &[(ProcessStatus, u64)],
        elapsed: Option<Duration>,
    ) {
        // COMPAT(pkg/diagnostics BulkPubsubIngressEvent): the call itself has no outcome, its entries have.
        let labels = [component, "", topic];
        match elapsed {
            Some(elapsed) => self.ingress_bulk.record(labels, elapsed),
            None => self.ingress_bulk.count(labels),
        }
        for (outcome, count) in events.iter().filter(|(_, count)| *count > 0) {
            self.ingress_bulk_events
                .with([component, outcome.bulk_word(), topic])
                .add(*count);
        }
    }
}

impl ProcessStatus {
    /// The value of the label.
    pub fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Retry => "retry",
            Self::Drop => "drop",
        }
    }

    /// COMPAT(pkg/runtime/subscription/todo/helpers.go): the entries of a bulk are counted under the words of the app's answer.
    fn bulk_word(self) -> &'static str {
        match self {
            Self::Success => "SUCCESS",
            Self::Retry => "RETRY",
            Self::Drop => "DROP",
        }
    }
}

fn timed<const N: usize>(
    registry: &Registry,
    name: &str,
    count: &str,
    latency: &str,
    labels: [Label; N],
) -> Timed<N> {
    Timed::new(
        registry.counter(&format!("{name}/count"), count, labels),
        registry.latency(&format!("{name}/latencies"), latency, labels),
    )
}

fn word(success: bool) -> &'static str {
    if success { "true" } else { "false" }
}
