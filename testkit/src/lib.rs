//! For tests only: one conformance suite per component trait, recording fakes, and real processes in a temporary
//! folder: servers, apps, and our own executable.
//!
//! Nothing here is part of the product. What fails, panics: that is what tests expect.

pub mod app;
pub mod audit;
pub mod broker;
pub mod cache;
pub mod client;
pub mod conformance;
pub mod disk;
pub mod fakes;
pub mod limits;
pub mod log;
pub mod maven;
pub mod pki;
pub mod port;
pub mod process;
pub mod relay;
pub mod servers;
pub mod setup;
pub mod store;
pub mod stores;
pub mod until;
