//! `runtime/service_invocation/…` and `runtime/acl/…`: calls between apps, and who was let through.
//!
//! COMPAT(pkg/diagnostics/service_monitoring.go): names, help texts and labels.

use std::time::Duration;

use http::StatusCode;

use super::{Counter, Family, Histogram, Label, Registry};

/// Families of calls between apps.
pub struct Invocation {
    sent: Family<Counter, 2>,
    received: Family<Counter, 1>,
    answered: Family<Counter, 2>,
    replied: Family<Counter, 3>,
    reply_latency: Family<Histogram, 2>,
}

/// How an app answered, in the terms of its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Http(StatusCode),
    /// A gRPC status code, 0 to 16.
    Grpc(i32),
}

/// Whether a call is one message each way or a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Unary,
    Streaming,
}

/// Families of access-control decisions.
pub struct Access {
    app_allowed: Family<Counter, 3>,
    app_blocked: Family<Counter, 3>,
    global_allowed: Family<Counter, 3>,
    global_blocked: Family<Counter, 3>,
}

const DESTINATION: Label = Label::open("dst_app_id");
const SOURCE: Label = Label::open("src_app_id");
const STATUS: Label = Label::closed("status");
const TYPE: Label = Label::closed("type");

impl Invocation {
    pub fn new(registry: &Registry) -> Self {
        Self {
            sent: registry.counter(
                "runtime/service_invocation/req_sent_total",
                "The number of requests sent via service invocation.",
                [DESTINATION, TYPE],
            ),
            received: registry.counter(
                "runtime/service_invocation/req_recv_total",
                "The number of requests received via service invocation.",
                [SOURCE],
            ),
            answered: registry.counter(
                "runtime/service_invocation/res_sent_total",
                "The number of responses sent via service invocation.",
                [DESTINATION, STATUS],
            ),
            replied: registry.counter(
                "runtime/service_invocation/res_recv_total",
                "The number of responses received via service invocation.",
                [SOURCE, STATUS, TYPE],
            ),
            reply_latency: registry.latency(
                "runtime/service_invocation/res_recv_latency_ms",
                "The latency of service invocation response.",
                [SOURCE, STATUS],
            ),
        }
    }

    /// A call sent to another app.
    pub fn sent(&self, to: &str, shape: Shape) {
        self.sent.with([to, shape.word()]).increment();
    }

    /// A call received from another app.
    pub fn received(&self, from: &str) {
        self.received.with([from]).increment();
    }

    /// An answer sent back to the app that called.
    pub fn answered(&self, to: &str, status: Answer) {
        self.answered.with([to, status.as_str()]).increment();
    }

    /// An answer received from the app that was called. Streams are not timed.
    pub fn replied(&self, from: &str, status: Answer, shape: Shape, elapsed: Duration) {
        self.replied
            .with([from, status.as_str(), shape.word()])
            .increment();
        if shape == Shape::Unary {
            self.reply_latency
                .with([from, status.as_str()])
                .observe_duration(elapsed);
        }
    }
}

impl Access {
    pub fn new(registry: &Registry) -> Self {
        let decisions = |scope: &str, decision: &str, from: &str| {
            registry.counter(
                &format!("runtime/acl/{scope}_policy_action_{decision}_total"),
                &format!(
                    "The number of requests {decision} by the {from} specified in the access control policy."
                ),
                // COMPAT: here, `app_id` is the caller's.
                [
                    Label::open("app_id"),
                    Label::open("trustDomain"),
                    Label::open("namespace"),
                ],
            )
        };
        Self {
            app_allowed: decisions("app", "allowed", "app specific action"),
            app_blocked: decisions("app", "blocked", "app specific action"),
            global_allowed: decisions("global", "allowed", "global action"),
            global_blocked: decisions("global", "blocked", "global action"),
        }
    }

    /// A decision by an app's own policy about a caller.
    pub fn by_app(&self, allowed: bool, app_id: &str, trust_domain: &str, namespace: &str) {
        let family = if allowed {
            &self.app_allowed
        } else {
            &self.app_blocked
        };
        family.with([app_id, trust_domain, namespace]).increment();
    }

    /// A decision by the policy's default action about a caller.
    pub fn by_default(&self, allowed: bool, app_id: &str, trust_domain: &str, namespace: &str) {
        let family = if allowed {
            &self.global_allowed
        } else {
            &self.global_blocked
        };
        family.with([app_id, trust_domain, namespace]).increment();
    }
}

impl Answer {
    fn as_str(&self) -> &str {
        const GRPC: [&str; 17] = [
            "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16",
        ];
        match self {
            Self::Http(status) => status.as_str(),
            Self::Grpc(code) => usize::try_from(*code)
                .ok()
                .and_then(|code| GRPC.get(code))
                .copied()
                .unwrap_or("2"),
        }
    }
}

impl Shape {
    fn word(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::Streaming => "streaming",
        }
    }
}
