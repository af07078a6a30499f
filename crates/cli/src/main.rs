//! The one executable. Its first argument, or the name it is called by, picks the role: `outrigger run …` for people,
//! `daprd …` for tools that look for a sidecar of that name.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks to its user"
)]

mod commands;
mod completion;
mod components;
mod configuration;
mod demo;
mod down;
mod environment;
mod explain;
mod home;
mod http;
mod hub;
mod init;
mod instances;
mod invoke;
mod list;
mod logs;
mod process;
mod publish;
mod roles;
mod run;
mod screen;
mod status;
mod stop;
mod version;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let called = args.next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    match role(&called, &args) {
        Role::Sidecar(args) => roles::sidecar(args),
        Role::Hub(args) => roles::hub(args),
        Role::Under(args) => roles::under::exec(&args),
        Role::App(args) => demo::app(args),
        Role::People => roles::people(args),
    }
}

#[derive(Debug, PartialEq)]
enum Role {
    Sidecar(Vec<OsString>),
    Hub(Vec<OsString>),
    /// Becomes somebody's app.
    Under(Vec<OsString>),
    /// One of the demo's own apps.
    App(Vec<OsString>),
    People,
}

/// `daprd …` by name, or `outrigger daprd …`.
fn role(called: &OsStr, args: &[OsString]) -> Role {
    let name = Path::new(called)
        .file_stem()
        .and_then(OsStr::to_str)
        .unwrap_or_default();
    let first = args.first().and_then(|arg| arg.to_str()).unwrap_or_default();
    let behind = || args.iter().skip(1).cloned().collect();
    match (name, first) {
        ("daprd", _) => Role::Sidecar(args.to_vec()),
        (_, "daprd") => Role::Sidecar(behind()),
        (_, "hub") => Role::Hub(behind()),
        (_, roles::under::EXEC) => Role::Under(behind()),
        (_, demo::APP) => Role::App(behind()),
        _ => Role::People,
    }
}

#[cfg(test)]
mod tests {
    use super::{Role, role};
    use std::ffi::{OsStr, OsString};

    #[test]
    fn the_name_or_the_first_word_picks_the_role() {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let cases: [(&str, &[&str], Role); 8] = [
            ("outrigger", &["run", "--", "daprd"], Role::People),
            ("outrigger", &[], Role::People),
            (
                "/x/daprd",
                &["--app-id", "a"],
                Role::Sidecar(words(&["--app-id", "a"])),
            ),
            ("daprd", &["hub"], Role::Sidecar(words(&["hub"]))),
            (
                "outrigger",
                &["daprd", "--version"],
                Role::Sidecar(words(&["--version"])),
            ),
            (
                "outrigger",
                &["hub", "--home", "x"],
                Role::Hub(words(&["--home", "x"])),
            ),
            ("outrigger", &["demo"], Role::People),
            ("outrigger", &["demo-app", "order"], Role::App(words(&["order"]))),
        ];
        for (called, args, expected) in cases {
            assert_eq!(
                role(OsStr::new(called), &words(args)),
                expected,
                "{called} {args:?}"
            );
        }
    }
}
