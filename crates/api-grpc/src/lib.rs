//! The gRPC doors: the public API and the one for other sidecars.

pub mod internal;
