//! For tests only: one conformance suite per component trait, recording fakes, and real servers in a temporary folder.
//!
//! Nothing here is part of the product. What fails, panics: that is what tests expect.

pub mod conformance;
pub mod fakes;
pub mod log;
pub mod servers;
pub mod setup;
