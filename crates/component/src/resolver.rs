//! Name resolution: from an app id to the internal addresses of its sidecars.

use crate::Component;
use crate::error::Result;

/// The app to find.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    pub app_id: String,
    pub namespace: String,
}

/// Where a sidecar's internal gRPC server listens: `host:port`, IPv6 hosts in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint(pub String);

/// What a sidecar announces of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub app_id: String,
    pub namespace: String,
    /// Address that other sidecars can reach (see features 3.1, host address order).
    pub host: String,
    /// Address for sidecars of the same machine: loopback where that is listened on, since it outlives a change of network.
    pub near_host: String,
    /// Port of the internal gRPC server.
    pub internal_port: u16,
    pub http_port: u16,
    pub grpc_port: u16,
}

#[async_trait::async_trait]
pub trait NameResolver: Component {
    /// Every instance that is known now, in no particular order; empty when there is none. May wait for an
    /// answer from the network for a bounded time (each implementation states it).
    async fn resolve(&self, target: &Target) -> Result<Vec<Endpoint>>;

    /// Told when calls to an endpoint failed, so that a cached answer can be dropped.
    fn unreachable(&self, _target: &Target, _endpoint: &Endpoint) {}
}
