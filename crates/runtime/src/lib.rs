//! The use cases: one module per building block, with all policy. Doors call in, seams are called out to,
//! nothing calls back.
//!
//! First file for a newcomer: `pubsub/publish.rs`.

pub mod access;
pub mod admission;
pub mod bindings;
pub mod catalogue;
pub mod components;
pub mod configuration;
pub mod endpoints;
pub mod error;
pub mod health;
pub mod invoke;
mod life;
pub mod lock;
pub mod metadata;
mod outbound;
pub mod pubsub;
pub mod secrets;
pub mod state;

#[cfg(test)]
mod fakes;
