//! Against real servers; skipped loudly where none are installed.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod churn;
mod cluster;
mod limits;
mod others;
mod safety;
mod sentinel;
mod state_pubsub;
mod support;
