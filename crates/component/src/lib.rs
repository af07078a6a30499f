//! The seam between policy and vendors: the traits a component implements, their request and result
//! types, [`Error`](error::Error), and the [`Registry`](registry::Registry).
//!
//! INVARIANT: nothing here opens a socket or knows a vendor. A value that exists is ready: building a
//! component is initialising it; there is no second `init` call.
//!
//! Streams end when the caller drops them: unsubscribing is `drop`, pausing is *not polling*, draining is
//! *stop polling, settle what is held*.

pub mod binding;
pub mod configuration;
pub mod error;
pub mod lock;
pub mod metadata;
pub mod middleware;
pub mod options;
pub mod pubsub;
pub mod query;
pub mod registry;
pub mod resolver;
pub mod secret;
pub mod setup;
pub mod state;

use error::Result;

/// What every component can do, whatever its kind.
#[async_trait::async_trait]
pub trait Component: Send + Sync + 'static {
    /// Asks the backend whether it is there. The default is for components without a backend.
    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    /// Gives back what the component holds. Called once, after the last request has ended.
    async fn close(&self) {}
}
