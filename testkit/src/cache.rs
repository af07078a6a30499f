//! Where tests keep what they fetch or build once: outside the repository, between runs.

use std::path::PathBuf;

/// `~/.cache/outrigger-tests`, or a temporary folder where there is no home. It may not exist yet.
#[expect(
    clippy::disallowed_methods,
    reason = "tests ask for their user's home; the product does not see this"
)]
pub fn folder() -> PathBuf {
    let home = std::env::var_os("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
    home.join(".cache/outrigger-tests")
}
