//! One suite per component trait. Vendors call them from `tests/`, with their component built for the purpose.
//!
//! The cases are chosen by what the component claims: a claimed feature must work, one that is not claimed must answer
//! `Unsupported`. A suite panics at the first case that fails and names it.

pub mod binding;
pub mod configuration;
pub mod lock;
pub mod pubsub;
pub mod secrets;
pub mod state;
