//! Health: whether the sidecar as a whole is ready, and whether it can already be called.
//!
//! The two differ only in the parts they were given: outbound health does not wait for the app.

use crate::catalogue::common as catalogue;
use crate::error::Result;
use outrigger_daemon::ready::Ready;

/// The health use cases.
pub struct Health {
    app_id: String,
    all: Ready,
    outbound: Ready,
}

impl Health {
    pub fn new(app_id: String, all: Ready, outbound: Ready) -> Self {
        Self {
            app_id,
            all,
            outbound,
        }
    }

    /// Whether everything is ready. `expected` is the app id that the caller thinks it talks to, if it said one.
    ///
    /// # Errors
    /// [`catalogue::HEALTH_NOT_READY`] naming what is awaited, then [`catalogue::HEALTH_APP_ID`].
    pub fn ready(&self, expected: Option<&str>) -> Result<()> {
        if !self.all.is_ready() {
            return Err(catalogue::not_ready(&self.all.pending()));
        }
        match expected {
            Some(other) if other != self.app_id => Err(catalogue::app_id_mismatch()),
            _ => Ok(()),
        }
    }

    /// Whether components are loaded and the API answers, app or not.
    ///
    /// # Errors
    /// [`catalogue::OUTBOUND_NOT_READY`].
    pub fn outbound(&self) -> Result<()> {
        if self.outbound.is_ready() {
            Ok(())
        } else {
            Err(catalogue::outbound_not_ready())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Health;
    use outrigger_daemon::ready::Ready;

    #[test]
    fn answers_follow_the_parts() {
        let (all, outbound) = (Ready::new(), Ready::new());
        let app = all.part("app");
        let server = all.part("grpc-internal-server");
        let api = outbound.part("api");
        let health = Health::new("shop".to_owned(), all, outbound);
        let says = |outcome: crate::error::Result<()>| outcome.err().map(|error| error.message);

        assert_eq!(
            says(health.ready(Some("other"))).as_deref(),
            Some("dapr is not ready: [app grpc-internal-server]")
        );
        assert_eq!(
            says(health.outbound()).as_deref(),
            Some("dapr outbound is not ready")
        );
        server.done();
        api.done();
        assert_eq!(
            says(health.ready(None)).as_deref(),
            Some("dapr is not ready: [app]")
        );
        assert_eq!(says(health.outbound()), None);
        app.done();
        assert_eq!(says(health.ready(None)), None);
        assert_eq!(says(health.ready(Some("shop"))), None);
        assert_eq!(
            says(health.ready(Some("other"))).as_deref(),
            Some("dapr app-id does not match")
        );
    }
}
