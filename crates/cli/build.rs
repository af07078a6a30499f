//! How the program is linked: relocations packed into bitmaps (DT_RELR) where the C library of this machine can read them,
//! which takes a megabyte off the program and off its memory; and without symbols in release form, because Cargo (1.95)
//! forgets a profile's `strip` for packages whose other settings are overridden.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script everything in its environment"
)]

use std::env;
use std::io::{self, Write};
use std::process::Command;

/// The first glibc that applies packed relocations.
const GLIBC: (u32, u32) = (2, 36);

fn main() -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "cargo::rerun-if-changed=build.rs")?;
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") {
        writeln!(out, "cargo::rustc-link-arg-bins=-Wl,--strip-all")?;
    }
    let native = env::var("HOST").ok() == env::var("TARGET").ok();
    if native
        && is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
        && glibc().is_some_and(|found| found >= GLIBC)
    {
        writeln!(out, "cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs")?;
    }
    Ok(())
}

/// The C library of this machine; `None` when it does not tell.
fn glibc() -> Option<(u32, u32)> {
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let told = String::from_utf8(told.stdout).ok()?;
    let (major, rest) = told.trim().strip_prefix("glibc ")?.split_once('.')?;
    let minor = rest.split('.').next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
