//! Secret stores that are on this machine: the process's environment and a JSON file.

pub mod environment;
pub mod file;
