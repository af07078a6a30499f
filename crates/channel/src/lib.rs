//! Every conversation the sidecar *starts*, components apart: with its app ([`app`]) and with other
//! sidecars ([`peer`]).
//!
//! API boundary: callers see [`Call`](call::Call), [`Reply`](call::Reply) and the two traits; whether the app speaks
//! HTTP or gRPC is known here and nowhere else.

pub mod app;
pub mod body;
pub mod call;
pub mod endpoint;
pub mod error;
pub mod grpc;
pub mod h2;
pub mod json;
mod path;
pub mod peer;
#[cfg(test)]
mod testing;
pub mod wire;
