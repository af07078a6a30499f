//! The one executable. Its first argument, or the name it is called by, picks the role: `outrigger run …` for people,
//! `daprd …` for tools that look for a sidecar of that name.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool talks to its user")]

mod environment;
mod roles;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let called = args.next().unwrap_or_default();
    let rest: Vec<OsString> = args.collect();
    match role(&called, &rest) {
        Role::Sidecar(args) => roles::sidecar(args),
        Role::Hub(args) => roles::hub(args),
        Role::People => roles::people(rest),
    }
}

enum Role {
    Sidecar(Vec<OsString>),
    Hub(Vec<OsString>),
    People,
}

/// `daprd …` by name, or `outrigger daprd …`.
fn role(called: &OsString, args: &[OsString]) -> Role {
    let name = Path::new(called).file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let first = args.first().and_then(|arg| arg.to_str()).unwrap_or_default();
    let behind = || args.iter().skip(1).cloned().collect();
    match (name, first) {
        ("daprd", _) => Role::Sidecar(args.to_vec()),
        (_, "daprd") => Role::Sidecar(behind()),
        (_, "hub") => Role::Hub(behind()),
        _ => Role::People,
    }
}
