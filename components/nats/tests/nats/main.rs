//! Against a real server; skipped loudly where none is installed.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod limits;
mod pubsub;
mod reach;
mod server;
mod state;
