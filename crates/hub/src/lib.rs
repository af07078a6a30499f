//! The hub: one process per machine and home folder that gives its sidecars durable topics, keys and values, and
//! each other's names, over a unix socket.
//!
//! INVARIANT: what was acknowledged is on disk (see [`config::Fsync`]) and is neither lost nor reordered by the end
//! of any process. The hub never listens beyond the machine.
//!
//! How a request travels: [`server`] decodes it; [`commit`] makes it durable in the [`log`], together with
//! whatever else is waiting; then it is visible: keys in [`kv`], messages in [`topic`], from where [`dispatch`]
//! gives them to the members of each [`group`]. `docs/hub.md` describes the files and the guarantees.
//!
//! Deliberately absent: replication, access from other machines, dead letter topics (the runtime's policy).

mod broker;
mod catalog;
pub mod client;
mod clock;
mod commit;
pub mod config;
mod dispatch;
pub mod error;
mod folder;
mod group;
mod health;
mod hub;
pub mod inspect;
mod kv;
mod log;
mod names;
mod server;
mod topic;
mod topics;

pub use hub::{Ended, Hub};
