//! Other sidecars.

use crate::call::{Call, Reply};
use crate::error::Error;
use outrigger_component::resolver::{Endpoint, Target};
use outrigger_daemon::trace::Context;

/// Calls to other sidecars over the internal gRPC protocol.
///
/// INVARIANT: a call that arrived from a peer never leaves to another peer.
#[async_trait::async_trait]
pub trait PeerChannel: Send + Sync + 'static {
    /// Invokes `call.method` of the app behind the sidecar at `at`.
    async fn invoke(
        &self,
        at: &Endpoint,
        app: &Target,
        call: Call,
        trace: Option<&Context>,
    ) -> Result<Reply, Error>;

    /// Forgets connections to an endpoint that failed, so that the next call connects anew.
    fn forget(&self, at: &Endpoint);
}
