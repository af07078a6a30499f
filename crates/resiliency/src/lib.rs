//! Timeout, retry and circuit breaker as values: look a [`policy::Policy`] up by what is called, then
//! `policy.run(op)`.
//!
//! - [`core`] is the behaviour: pure, time and chance passed in. Its header says how everything works.
//! - [`policies`] is the lookup: which policy applies to which app, actor or component.
//! - [`load`] turns Resiliency documents into what the lookup needs.
//! - [`policy`] is the thin shell that sleeps and enforces timeouts with `tokio::time`.
//! - [`event`] is what happened, for logs and metrics; callers pass an observer.
//!
//! Invariants: a target without policy costs one map lookup and no allocation; no lock is held across an await; a
//! call that is dropped half-way counts as failed, so a half-open breaker never waits for it.
//!
//! Deliberately not here: deciding which errors carry which code, replaying request bodies, logging.

mod cache;
pub mod core;
pub mod event;
pub mod load;
pub mod policies;
pub mod policy;
pub mod words;
