//! Bindings that need no server.

pub mod cron;
pub mod files;
