//! Tests that run the real executable, one module per subject; one program, since linking is the slow part.

#![allow(
    clippy::unwrap_used,
    clippy::type_complexity,
    reason = "a test that cannot go on says so by panicking, in helpers as in the tests themselves"
)]

mod cluster;

mod backpressure;
mod bad_start;
mod bad_wire;
mod descriptors;
mod docs;
mod kills;
mod odd_app;
mod orders;
mod outbox;
mod overload;
mod parity;
mod sdk;
mod streams;
mod swap;
mod two_sidecars;
