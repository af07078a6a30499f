//! The gRPC doors: the public API ([`public`]) and the one for other sidecars ([`internal`]).
//!
//! Both stand on plain HTTP/2 and the framing of [`outrigger_channel::wire`] instead of generated service code: a message is
//! decoded out of the buffer it arrived in, an answer is encoded once at its exact size, and limits, metadata and trailers
//! are as the reference's clients expect them. Messages are the generated ones.

mod bindings;
mod bounded;
mod configuration;
mod error;
mod filter;
mod held;
pub mod internal;
mod invoke;
mod lock;
mod metadata;
mod observe;
pub mod public;
mod pubsub;
mod reflection;
mod secrets;
mod service;
mod state;
mod subscribe;
#[cfg(test)]
mod tests;
mod token;
mod unary;

pub use filter::Filter;
pub use service::Service;
