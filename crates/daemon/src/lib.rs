//! What every long-running process is made of: logs, metrics, tracing, health, signals, tasks, drain.
//!
//! INVARIANT: nothing here is global. A [`log::Log`], a [`metrics::Registry`], a [`trace::Tracer`], a
//! [`ready::Ready`] and a [`tasks::Tasks`] are values that the composition root makes and hands down, so that a
//! process can hold many sidecars and restart one without leaving anything behind.
//!
//! Deliberately absent: reading the environment or flags (the composition root does that once), HTTP routes of
//! our APIs and access logging (the doors do that).

pub mod backoff;
pub mod dial;
pub mod drain;
pub mod log;
pub mod metrics;
pub mod ready;
pub mod signals;
pub mod tasks;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod trace;
pub mod version;
