//! Shows what is in log segments: `cargo run -p outrigger-hub --example inspect -- ~/.outrigger/hub/log/*.log`.
//! Prints one line per record; contents are not shown. Safe while a hub runs.

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for path in std::env::args().skip(1) {
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes::Bytes::from(bytes),
            Err(error) => {
                println!("{path}: {error}");
                code = ExitCode::FAILURE;
                continue;
            }
        };
        match outrigger_hub::inspect::segment(bytes, &mut |sequence, what| println!("{sequence:>12} {what}"))
        {
            Ok(summary) => println!("{path}: {summary:?}"),
            Err(error) => {
                println!("{path}: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
