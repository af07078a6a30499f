//! The executable as people use it: real processes, real signals, a temporary home each.

mod commands;
mod demo;
mod many;
mod run;
mod world;
