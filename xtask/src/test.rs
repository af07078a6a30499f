//! `cargo xtask test`: everything CI runs, in the order in which failures are cheapest to learn of. Ends with
//! `N passed, N failed, N skipped`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// Debian packages that some tests need, with the program that shows that they are there.
const PACKAGES: &[(&str, &str)] = &[
    ("etcd-server", "etcd"),
    ("mariadb-server", "mariadbd"),
    ("maven", "mvn"),
    ("memcached", "memcached"),
    ("mosquitto", "mosquitto"),
    ("nats-server", "nats-server"),
    ("openjdk-17-jre-headless", "java"),
    ("postgresql", "pg_createcluster"), // psql may be there without a server
    ("rabbitmq-server", "rabbitmq-server"),
    ("redis-server", "redis-server"),
];

#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// Runs all checks, or with `--quick` all but the slow ones (kills, example runs).
///
/// # Errors
/// When any check fails.
#[expect(clippy::print_stdout, reason = "progress and result of a command-line tool")]
pub(crate) fn run(args: &[String]) -> Result<()> {
    let quick = match args {
        [] => false,
        [flag] if flag == "--quick" => true,
        other => bail!("unknown options {other:?}; usage: cargo xtask test [--quick]"),
    };
    let started = Instant::now();
    let mut tally = Tally::default();
    packages(&mut tally);
    step(&mut tally, "format", &["fmt", "--all", "--check"])?;
    tidy(&mut tally)?;
    step(
        &mut tally,
        "generated code is current",
        &["xtask", "codegen", "--check"],
    )?;
    step(
        &mut tally,
        "clippy",
        &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
    )?;
    // The executable that the process tests run.
    step(&mut tally, "build", &["build", "--workspace", "--bins"])?;
    tests(&mut tally, quick)?;
    println!("\nin {} s", started.elapsed().as_secs());
    println!(
        "{} passed, {} failed, {} skipped",
        tally.passed, tally.failed, tally.skipped
    );
    if tally.failed > 0 {
        bail!("{} checks failed", tally.failed);
    }
    Ok(())
}

/// Installs what is missing where that is possible; otherwise the tests that need it skip themselves loudly.
#[expect(clippy::print_stdout, reason = "progress of a command-line tool")]
fn packages(tally: &mut Tally) {
    for &(package, program) in PACKAGES {
        let there = || {
            Command::new("which")
                .arg(program)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        if there() {
            continue;
        }
        println!("== installing {package}");
        let apt = |args: &[&str]| {
            Command::new("apt-get")
                .args(args)
                .env("DEBIAN_FRONTEND", "noninteractive")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        let installed = apt(&["install", "-y", "--no-install-recommends", package])
            || (apt(&["update"]) && apt(&["install", "-y", "--no-install-recommends", package]));
        if !installed || !there() {
            tally.skipped += 1;
            println!(
                "SKIPPED: {package} is not installed and cannot be installed here; its tests will skip themselves"
            );
        }
    }
}

#[expect(clippy::print_stdout, reason = "progress of a command-line tool")]
fn step(tally: &mut Tally, name: &str, args: &[&str]) -> Result<()> {
    println!("== {name}");
    let status = Command::new(env!("CARGO"))
        .args(args)
        .stdin(Stdio::null())
        .status()
        .context("cannot start cargo")?;
    if status.success() {
        tally.passed += 1;
    } else {
        tally.failed += 1;
        println!("FAILED: {name} (cargo {})", args.join(" "));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "progress of a command-line tool")]
fn tidy(tally: &mut Tally) -> Result<()> {
    println!("== tidy");
    let findings = crate::tidy::findings()?;
    for finding in &findings {
        println!("FAILED: {finding}");
    }
    if findings.is_empty() {
        tally.passed += 1;
    } else {
        tally.failed += 1;
    }
    Ok(())
}

/// All tests of the workspace; every test that cannot run here says `SKIPPED: why` and is counted as skipped
/// instead of passed.
#[expect(clippy::print_stdout, reason = "progress of a command-line tool")]
fn tests(tally: &mut Tally, quick: bool) -> Result<()> {
    println!("== tests");
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--workspace", "--no-fail-fast", "--", "--nocapture"]);
    if quick {
        command.env("OUTRIGGER_QUICK_TESTS", "1");
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut results = 0;
    let mut skipped = 0;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read cargo's output")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some(at) = line.find("SKIPPED: ") {
            skipped += 1;
            // Kept apart so that it stands out in a long log.
            println!(">>>> {}", &line[at..]);
        }
        if let Some(counts) = line.trim().strip_prefix("test result: ") {
            results += 1;
            tally.passed += number_before(counts, " passed");
            tally.failed += number_before(counts, " failed");
            tally.skipped += number_before(counts, " ignored");
        }
    }
    let status = child.wait().context("cargo did not end")?;
    if results == 0 {
        bail!("no test ran: cargo test ended with {status}");
    }
    if !status.success() && tally.failed == 0 {
        tally.failed += 1;
        println!("FAILED: cargo test ended with {status}");
    }
    tally.passed = tally.passed.saturating_sub(skipped);
    tally.skipped += skipped;
    Ok(())
}

fn number_before(text: &str, word: &str) -> u64 {
    text.split(word)
        .next()
        .and_then(|before| before.rsplit([' ', '.']).find_map(|part| part.parse().ok()))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::number_before;

    #[test]
    fn results_are_read() {
        let line = "ok. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(
            (
                number_before(line, " passed"),
                number_before(line, " failed"),
                number_before(line, " ignored")
            ),
            (12, 3, 1)
        );
    }
}
