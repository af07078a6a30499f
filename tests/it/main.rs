//! Tests that run the real executable, one module per subject; one program, since linking is the slow part.

mod cluster;

mod backpressure;
mod bad_input;
mod docs;
mod kills;
mod two_sidecars;
