//! Real servers for tests: each on a free port of the loopback interface with its files in a temporary folder, ended
//! with its value.
//!
//! A server whose program is not installed is skipped loudly: a line `SKIPPED: …`, which `cargo xtask test` counts.

pub mod etcd;
pub mod kafka;
mod life;
pub mod mariadb;
pub mod memcached;
pub mod mosquitto;
pub mod nats;
pub mod postgresql;
pub mod rabbitmq;
pub mod redis;
pub mod schema_registry;
pub mod zipkin;

/// Says that tests do not run.
#[expect(clippy::print_stdout, reason = "what is skipped must be seen and counted")]
pub fn skipped(why: &str) {
    // At the beginning of a line even when the test harness has begun one.
    println!("\nSKIPPED: {why}");
}
