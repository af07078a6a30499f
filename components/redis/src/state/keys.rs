//! Keys by pattern: all of them are read, sorted and cut into pages.
//!
//! COMPAT(components-contrib state/redis): a page's token is the number of keys before it.

use crate::client::{Client, Repeat};
use crate::failure::failure;
use outrigger_component::error::{Error, Result};
use outrigger_component::state::{Keys, KeysLike};
use redis::RedisResult;
use std::collections::BTreeSet;

/// Keys that the server looks at in one go.
const BATCH: u32 = 1000;

pub(super) async fn like(client: &Client, like: &KeysLike) -> Result<Keys> {
    if like.pattern.is_empty() {
        return Err(Error::invalid("pattern must not be empty: write % for all keys"));
    }
    let start: usize = match like.continuation.as_deref() {
        None | Some("") => 0,
        Some(token) => token.parse().map_err(|_| {
            Error::invalid(format!(
                "invalid continuation token {token:?}: use the one of the page before"
            ))
        })?,
    };
    let glob = glob(&like.pattern);
    // A scan may see a key twice.
    let mut found = BTreeSet::new();
    scan(client, &glob, &mut found)
        .await
        .map_err(|error| failure("redis SCAN failed", error))?;
    let size = like
        .page_size
        .filter(|size| *size > 0)
        .and_then(|size| usize::try_from(size).ok())
        .unwrap_or(usize::MAX);
    let end = start.saturating_add(size);
    Ok(Keys {
        continuation: (end < found.len()).then(|| end.to_string()),
        keys: found.into_iter().skip(start).take(size).collect(),
    })
}

/// Adds the keys that match.
///
/// # Errors
/// The server's.
pub(crate) async fn scan(client: &Client, glob: &str, found: &mut BTreeSet<String>) -> RedisResult<()> {
    for part in client.parts().await? {
        let mut cursor = 0_u64;
        loop {
            let mut cmd = redis::cmd("SCAN");
            cmd.arg(cursor).arg("MATCH").arg(glob).arg("COUNT").arg(BATCH);
            let (next, keys): (u64, Vec<Vec<u8>>) = part.query(&cmd, Repeat::Yes).await?;
            // What is not text is not ours.
            found.extend(keys.into_iter().filter_map(|key| String::from_utf8(key).ok()));
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
    Ok(())
}

/// From the language of SQL's `LIKE` to Redis's own.
fn glob(pattern: &str) -> String {
    let mut glob = String::with_capacity(pattern.len() + 8);
    let mut chars = pattern.chars();
    while let Some(next) = chars.next() {
        match next {
            '%' => glob.push('*'),
            '_' => glob.push('?'),
            '\\' => just(&mut glob, chars.next().unwrap_or('\\')),
            other => just(&mut glob, other),
        }
    }
    glob
}

/// A character that stands for itself.
fn just(glob: &mut String, next: char) {
    if matches!(next, '*' | '?' | '[' | ']' | '^' | '\\') {
        glob.push('\\');
    }
    glob.push(next);
}

#[cfg(test)]
mod tests {
    #[test]
    fn patterns() {
        for (like, glob) in [
            ("a%", "a*"),
            ("a_b", "a?b"),
            ("a\\%b\\_", "a%b_"),
            ("*?[a]", "\\*\\?\\[a\\]"),
            ("\\*", "\\*"),
            ("a\\", "a\\\\"),
            ("\\\\", "\\\\"),
        ] {
            assert_eq!(super::glob(like), glob, "{like}");
        }
    }
}
