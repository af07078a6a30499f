//! `cargo xtask components`: writes the tables of options into docs/components, between `<!-- options -->` and
//! `<!-- /options -->`, as our own executable prints them. A test of crates/cli says when they are stale.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

const BEGIN: &str = "<!-- options -->";
const END: &str = "<!-- /options -->";

/// # Errors
/// A page without the line, or of a type that this build does not have; files that cannot be read or written.
pub(crate) fn run() -> Result<()> {
    let target = crate::build(&["--package", "outrigger-cli"])?;
    for entry in fs::read_dir(crate::root()?.join("docs/components"))? {
        let path = entry?.path();
        let Some(kind) = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".md"))
        else {
            continue;
        };
        let output = Command::new(target.join("debug/outrigger"))
            .args(["components", kind, "--markdown"])
            .output()
            .context("cannot start outrigger")?;
        if !output.status.success() {
            bail!(
                "{}: {}",
                path.display(),
                String::from_utf8_lossy(&output.stderr).trim_end()
            );
        }
        let table = String::from_utf8(output.stdout).context("the table is no text")?;
        let page = fs::read_to_string(&path)?;
        let written =
            with(&page, &table).with_context(|| format!("{} has no line {BEGIN}", path.display()))?;
        if written != page {
            fs::write(&path, written)?;
        }
    }
    Ok(())
}

/// The page with another table; `None` without a place for it.
fn with(page: &str, table: &str) -> Option<String> {
    let (before, behind) = page.split_once(BEGIN)?;
    let after = behind.split_once(END).map_or(behind, |(_, after)| after);
    Some(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::with;

    #[test]
    fn the_table_is_replaced_or_put_in() {
        let fresh = "a\n<!-- options -->\n\nT\n\n<!-- /options -->\n\nb\n";
        for page in [
            "a\n<!-- options -->\n\nb\n",
            "a\n<!-- options -->\n<!-- /options -->\n\nb\n",
            "a\n<!-- options -->\n\nold\n\n<!-- /options -->\n\nb\n",
            fresh,
        ] {
            assert_eq!(with(page, "T\n").as_deref(), Some(fresh), "{page:?}");
        }
        assert_eq!(with("a", "T"), None);
    }
}
