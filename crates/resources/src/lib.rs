//! The YAML documents people write, parsed as the reference parses them; pure.
//!
//! One module per kind of document, each a plain struct without holes: `component`, `configuration`,
//! `subscription`, `resiliency`, `http_endpoint`; `cron` reads schedules. `yaml` is the only code that knows YAML, `go` the only code that
//! knows Go's textual forms (durations, booleans, quoting), `disk` the only code that touches a file.
//!
//! Invariants: no input makes this crate panic or run away (sizes, depth and aliases are bounded); nothing is read
//! from the environment (lookups are passed in); `Debug` never shows what may be a secret.
//!
//! Deliberately not here: fetching secrets, logging, building components. Callers get values and warnings.

pub mod component;
pub mod configuration;
pub mod cron;
pub mod disk;
pub mod expand;
pub mod go;
pub mod http_endpoint;
pub mod property;
pub mod references;
pub mod resiliency;
pub mod subscription;
pub mod template;
pub mod yaml;
