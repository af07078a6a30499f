//! Tests that run the real executable, one module per subject; one program, since linking is the slow part.

mod cluster;

mod backpressure;
mod bad_start;
mod bad_wire;
mod docs;
mod kills;
mod streams;
mod two_sidecars;
