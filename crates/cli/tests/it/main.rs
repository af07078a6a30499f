//! The executable as people use it: real processes, real signals, a temporary home each.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "these are tests; clippy knows only those beside the code"
)]

mod commands;
mod components;
mod demo;
mod many;
mod run;
mod world;
