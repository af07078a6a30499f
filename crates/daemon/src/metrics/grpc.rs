//! `grpc.io/…`: calls that arrive by gRPC and calls made by gRPC.
//!
//! COMPAT(pkg/diagnostics/grpc_monitoring.go): names, help texts and labels; the help of `completed_rpcs` is theirs.

use std::sync::Arc;
use std::time::Duration;

use super::family::Family;
use super::{Buckets, Histogram, Label, Registry, Timed};

/// Families of gRPC servers and clients. Methods are full names such as `/dapr.proto.runtime.v1.Dapr/GetState`,
/// statuses Go's words such as `OK` or `NotFound`.
pub struct Grpc {
    server: Timed<2>,
    server_received: Family<Histogram, 1>,
    server_sent: Family<Histogram, 1>,
    client: Timed<2>,
    client_sent: Family<Histogram, 1>,
    client_received: Family<Histogram, 1>,
    probes: Timed<1>,
}

/// Methods of ours are a closed set, but calls for unknown methods and proxied ones are named by the peer.
const SERVER_METHOD: Label = Label::open("grpc_server_method");
const SERVER_STATUS: Label = Label::closed("grpc_server_status");
const CLIENT_METHOD: Label = Label::open("grpc_client_method");
const CLIENT_STATUS: Label = Label::closed("grpc_client_status");

impl Grpc {
    pub fn new(registry: &Registry) -> Self {
        let bytes = |name: &str, help: &str, label| registry.histogram(name, help, [label], Buckets::bytes());
        Self {
            server: Timed::new(
                registry.counter(
                    "grpc.io/server/completed_rpcs",
                    "Distribution of bytes sent per RPC, by method.",
                    [SERVER_METHOD, SERVER_STATUS],
                ),
                registry.latency(
                    "grpc.io/server/server_latency",
                    "Time between first byte of request received to last byte of response sent, or terminal error.",
                    [SERVER_METHOD, SERVER_STATUS],
                ),
            ),
            server_received: bytes(
                "grpc.io/server/received_bytes_per_rpc",
                "Total bytes received across all messages per RPC.",
                SERVER_METHOD,
            ),
            server_sent: bytes(
                "grpc.io/server/sent_bytes_per_rpc",
                "Total bytes sent in across all response messages per RPC.",
                SERVER_METHOD,
            ),
            client: Timed::new(
                registry.counter(
                    "grpc.io/client/completed_rpcs",
                    "Count of RPCs by method and status.",
                    [CLIENT_METHOD, CLIENT_STATUS],
                ),
                registry.latency(
                    "grpc.io/client/roundtrip_latency",
                    "Time between first byte of request sent to last byte of response received, or terminal error.",
                    [CLIENT_METHOD, CLIENT_STATUS],
                ),
            ),
            client_sent: bytes(
                "grpc.io/client/sent_bytes_per_rpc",
                "Total bytes sent across all request messages per RPC.",
                CLIENT_METHOD,
            ),
            client_received: bytes(
                "grpc.io/client/received_bytes_per_rpc",
                "Total bytes received across all response messages per RPC.",
                CLIENT_METHOD,
            ),
            probes: Timed::new(
                registry.counter(
                    "grpc.io/healthprobes/completed_count",
                    "Count of completed health probes",
                    [CLIENT_STATUS],
                ),
                registry.latency(
                    "grpc.io/healthprobes/roundtrip_latency",
                    "Time between first byte of health probes sent to last byte of response received, or terminal error",
                    [CLIENT_STATUS],
                ),
            ),
        }
    }

    /// A unary call answered; sizes are those of the encoded messages.
    pub fn served(&self, method: &str, status: &str, received: u64, sent: u64, elapsed: Duration) {
        self.server.record([method, status], elapsed);
        self.server_received.with([method]).observe_count(received);
        self.server_sent.with([method]).observe_count(sent);
    }

    /// A stream served to its end, whose bytes nobody counted.
    pub fn served_stream(&self, method: &str, status: &str, elapsed: Duration) {
        self.server.record([method, status], elapsed);
    }

    /// A unary call made.
    pub fn called(&self, method: &str, status: &str, sent: u64, received: u64, elapsed: Duration) {
        self.client.record([method, status], elapsed);
        self.client_sent.with([method]).observe_count(sent);
        self.client_received.with([method]).observe_count(received);
    }

    /// A stream opened by us that has ended.
    pub fn called_stream(&self, method: &str, status: &str, elapsed: Duration) {
        self.client.record([method, status], elapsed);
    }

    /// A probe of the app's health.
    pub fn probed(&self, status: &str, elapsed: Duration) {
        self.probes.record([status], elapsed);
    }

    /// The sizes of one method's calls, for a door that keeps them with the method: received and sent.
    pub fn server_sizes(&self, method: &str) -> (Arc<Histogram>, Arc<Histogram>) {
        (
            self.server_received.with([method]),
            self.server_sent.with([method]),
        )
    }
}
