//! Keys by pattern: read in the order of the keys from where the page before ended.
//!
//! COMPAT(components-contrib state/etcd): a page's token is not theirs. Theirs counts revisions, which keys of one transaction
//! share, and passes over some of them.

use crate::client::{Client, Repeat};
use crate::failure::failure;
use crate::wire;
use bytes::Bytes;
use outrigger_component::error::{Error, Result};
use outrigger_component::state::like::Pattern;
use outrigger_component::state::{Keys, KeysLike};

/// Keys asked for in one go.
const BATCH: usize = 1000;

/// `prefix` stands before every key and is no part of it.
pub(super) async fn like(client: &Client, prefix: &str, like: &KeysLike) -> Result<Keys> {
    if like.pattern.is_empty() {
        return Err(Error::invalid("pattern must not be empty: write % for all keys"));
    }
    let pattern = Pattern::new(&like.pattern);
    let first = [prefix, &pattern.prefix()].concat();
    let end = beyond(first.as_bytes());
    let after = like.continuation.as_deref().filter(|token| !token.is_empty());
    if after.is_some_and(|after| !pattern.matches(after)) {
        return Err(Error::invalid(
            "invalid continuation token: use the one of the page before, with the same pattern",
        ));
    }
    let mut from = match after {
        Some(key) => next([prefix, key].concat().as_bytes()),
        None => Bytes::from(first),
    };
    let size = like
        .page_size
        .filter(|size| *size > 0)
        .and_then(|size| usize::try_from(size).ok())
        .unwrap_or(usize::MAX);
    // One more than fits, to know whether there is another page.
    let enough = size.saturating_add(1);
    let mut keys = Vec::new();
    while keys.len() < enough {
        let request = wire::Range {
            key: from,
            range_end: end.clone(),
            limit: i64::try_from(BATCH).unwrap_or(i64::MAX),
            keys_only: true,
        };
        let found: wire::Found = client
            .call(wire::RANGE, &request, Repeat::Yes)
            .await
            .map_err(|status| failure("couldn't list keys", &status))?;
        let Some(last) = found.kvs.last() else { break };
        from = next(&last.key);
        // What is not text is not ours.
        let texts = found.kvs.iter().filter_map(|kv| {
            let key = std::str::from_utf8(&kv.key).ok()?;
            key.strip_prefix(prefix)
        });
        keys.extend(texts.filter(|key| pattern.matches(key)).map(str::to_owned));
        if !found.more {
            break;
        }
    }
    let more = keys.len() > size;
    keys.truncate(size);
    Ok(Keys {
        continuation: keys.last().filter(|_| more).cloned(),
        keys,
    })
}

/// The smallest key after this one.
fn next(key: &[u8]) -> Bytes {
    Bytes::from([key, &[0]].concat())
}

/// The smallest key after all that begin with `prefix`; a zero byte, which is "to the last", if there is none.
fn beyond(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(higher) = last.checked_add(1) {
            end.push(higher);
            return Bytes::from(end);
        }
    }
    Bytes::from_static(&[0])
}

#[cfg(test)]
mod tests {
    use super::{beyond, next};

    #[test]
    fn ends_of_ranges() {
        for (prefix, end) in [
            (&b"/a"[..], &b"/b"[..]),
            (b"/", b"0"),
            (b"a\xff", b"b"),
            (b"\xff\xff", b"\0"),
            (b"", b"\0"),
        ] {
            assert_eq!(beyond(prefix), end, "{prefix:?}");
        }
        assert_eq!(next(b"a"), &b"a\0"[..]);
    }

    /// Seeded: whatever begins with a prefix lies below its end, and what does not, does not lie between.
    #[test]
    fn ranges_hold_exactly_what_begins_with_the_prefix() {
        let mut state = 7_u64;
        let mut random = |most: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % most
        };
        let alphabet = [0_u8, b'/', b'a', 0xfe, 0xff];
        for _ in 0..20_000 {
            let mut text = || -> Vec<u8> {
                (0..random(5))
                    .map(|_| alphabet[usize::try_from(random(5)).unwrap()])
                    .collect()
            };
            let (prefix, key) = (text(), text());
            let end = beyond(&prefix);
            let within = key >= prefix && (end[..] == [0] || key[..] < end[..]);
            assert_eq!(within, key.starts_with(&prefix), "{prefix:?} {key:?} {end:?}");
        }
    }
}
