//! The table: values, their tags and when they expire. No I/O, no clock: every call is told what time it is.

use bytes::Bytes;
use jiff::Timestamp;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::state::query::Found;
use outrigger_component::state::{Concurrency, Item, Keys, KeysLike, Ttl, Write, ttl};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::time::Instant;

#[derive(Default)]
pub(super) struct Table {
    values: HashMap<String, Value>,
    /// INVARIANT: one entry for each value with an expiry, none besides. The tag makes the key unique.
    expiries: BTreeMap<(Instant, u64), String>,
    /// The last tag that was given.
    last: u64,
}

#[derive(Clone)]
pub(super) struct Value {
    bytes: Bytes,
    tag: u64,
    expiry: Option<Expiry>,
}

#[derive(Clone, Copy)]
struct Expiry {
    at: Instant,
    /// The same moment for people.
    time: Timestamp,
}

/// A write whose metadata is known to be sound.
pub(super) struct Step {
    key: String,
    /// What must be stored now: `None` is "whatever", otherwise this tag, or nothing if it is empty.
    guard: Option<String>,
    change: Change,
}

enum Change {
    Set {
        bytes: Bytes,
        lifetime: Option<Duration>,
    },
    Delete,
}

impl Step {
    /// # Errors
    /// `Invalid` if `ttlInSeconds` is not a number of seconds.
    pub(super) fn new(write: Write) -> Result<Self> {
        Ok(match write {
            Write::Set(set) => Self {
                guard: guard(set.etag, set.concurrency),
                change: Change::Set {
                    lifetime: match ttl(&set.metadata)? {
                        Ttl::Seconds(seconds) => Some(Duration::from_secs(seconds.into())),
                        Ttl::Unset | Ttl::Never => None,
                    },
                    bytes: set.value,
                },
                key: set.key,
            },
            Write::Delete(delete) => Self {
                key: delete.key,
                guard: guard(delete.etag, delete.concurrency),
                change: Change::Delete,
            },
        })
    }
}

/// COMPAT(components-contrib state/in-memory): a first write without a tag asks for absence, of deletes as well.
fn guard(etag: Option<String>, concurrency: Concurrency) -> Option<String> {
    etag.filter(|tag| !tag.is_empty())
        .or_else(|| (concurrency == Concurrency::FirstWrite).then(String::new))
}

impl Table {
    pub(super) fn get(&mut self, key: &str, now: Instant) -> Option<Value> {
        let value = self.values.get(key)?;
        if value.is_live(now) {
            return Some(value.clone());
        }
        self.remove(key);
        None
    }

    /// Performs all steps, or none if one of them meets another tag than it asks for.
    pub(super) fn apply(&mut self, steps: Vec<Step>, now: Instant) -> Result<()> {
        for step in &steps {
            self.check(step, now)?;
        }
        for Step { key, change, .. } in steps {
            match change {
                Change::Set { bytes, lifetime } => self.insert(key, bytes, lifetime, now),
                Change::Delete => {
                    self.remove(&key);
                }
            }
        }
        Ok(())
    }

    fn check(&self, step: &Step, now: Instant) -> Result<()> {
        let Some(wanted) = &step.guard else { return Ok(()) };
        let key = &step.key;
        let current = self.values.get(key).filter(|value| value.is_live(now));
        let message = match current {
            Some(_) if wanted.is_empty() => "item already exists and no etag was passed".to_owned(),
            None if wanted.is_empty() => return Ok(()),
            None => format!("state not exist or expired for key={key}"),
            Some(value) if value.tag.to_string() == *wanted => return Ok(()),
            Some(value) => {
                format!(
                    "state etag not match for key={key}: current={}, expect={wanted}",
                    value.tag
                )
            }
        };
        Err(Error::new(Kind::EtagMismatch, message))
    }

    fn insert(&mut self, key: String, bytes: Bytes, lifetime: Option<Duration>, now: Instant) {
        self.last += 1;
        // A lifetime beyond the end of the calendar is the same as none.
        let expiry = lifetime.and_then(|lifetime| {
            Some(Expiry {
                at: now.checked_add(lifetime)?,
                time: Timestamp::now().checked_add(lifetime).ok()?,
            })
        });
        if let Some(expiry) = expiry {
            self.expiries.insert((expiry.at, self.last), key.clone());
        }
        let value = Value {
            bytes,
            tag: self.last,
            expiry,
        };
        if let Some(before) = self.values.insert(key, value) {
            self.forget_expiry(&before);
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(value) = self.values.remove(key) {
            self.forget_expiry(&value);
        }
    }

    fn forget_expiry(&mut self, of: &Value) {
        if let Some(expiry) = of.expiry {
            self.expiries.remove(&(expiry.at, of.tag));
        }
    }

    /// Removes up to `most` expired values; answers how many.
    pub(super) fn bury(&mut self, now: Instant, most: usize) -> usize {
        let mut buried = 0;
        while buried < most
            && let Some(first) = self.expiries.first_entry()
            && first.key().0 <= now
        {
            let key = first.remove();
            self.values.remove(&key);
            buried += 1;
        }
        buried
    }

    /// COMPAT(components-contrib state/in-memory): keys with a further `||` after the prefix belong to somebody below.
    pub(super) fn delete_with_prefix(&mut self, prefix: &str, now: Instant) -> u64 {
        let keys: Vec<String> = self
            .values
            .keys()
            .filter(|key| key.strip_prefix(prefix).is_some_and(|rest| !rest.contains("||")))
            .cloned()
            .collect();
        let mut deleted = 0;
        for key in keys {
            deleted += u64::from(self.get(&key, now).is_some());
            self.remove(&key);
        }
        deleted
    }

    /// Live values in the order of their keys.
    pub(super) fn with_prefix(&self, prefix: &str, now: Instant) -> Vec<Found> {
        let mut found: Vec<Found> = self
            .values
            .iter()
            .filter(|(key, value)| value.is_live(now) && key.starts_with(prefix))
            .map(|(key, value)| Found {
                key: key.clone(),
                value: value.bytes.clone(),
                etag: Some(value.tag.to_string()),
            })
            .collect();
        found.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        found
    }

    /// In the order of their last writes; a page continues at the tag that its token names.
    pub(super) fn keys_like(&self, like: &KeysLike, now: Instant) -> Result<Keys> {
        if like.pattern.is_empty() {
            return Err(Error::invalid("pattern must not be empty: write % for all keys"));
        }
        let from: u64 = match &like.continuation {
            Some(token) => token.parse().map_err(|_| {
                Error::invalid(format!(
                    "invalid continuation token {token:?}: use the one of the page before"
                ))
            })?,
            None => 0,
        };
        let pattern = Pattern::new(&like.pattern);
        let mut found: Vec<(u64, &String)> = self
            .values
            .iter()
            .filter(|(key, value)| value.tag >= from && value.is_live(now) && pattern.matches(key))
            .map(|(key, value)| (value.tag, key))
            .collect();
        found.sort_unstable();
        let size = like
            .page_size
            .and_then(|size| usize::try_from(size).ok())
            .unwrap_or(usize::MAX);
        let continuation = found.get(size).map(|(tag, _)| tag.to_string());
        found.truncate(size);
        Ok(Keys {
            keys: found.into_iter().map(|(_, key)| key.clone()).collect(),
            continuation,
        })
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.values.len(), self.expiries.len())
    }
}

impl Value {
    fn is_live(&self, now: Instant) -> bool {
        self.expiry.is_none_or(|expiry| now < expiry.at)
    }
}

impl From<Value> for Item {
    fn from(value: Value) -> Self {
        let metadata = match value.expiry {
            Some(expiry) => Metadata::from_iter([("ttlExpireTime", format!("{:.0}", expiry.time))]),
            None => Metadata::new(),
        };
        Self {
            value: value.bytes,
            etag: Some(value.tag.to_string()),
            content_type: None,
            metadata,
        }
    }
}

/// A pattern in the language of SQL's `LIKE`.
pub(super) struct Pattern(Vec<Part>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Just(char),
}

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        let mut parts = Vec::with_capacity(text.len());
        let mut chars = text.chars();
        while let Some(next) = chars.next() {
            parts.push(match next {
                '%' => Part::Any,
                '_' => Part::One,
                '\\' => Part::Just(chars.next().unwrap_or('\\')),
                other => Part::Just(other),
            });
        }
        Self(parts)
    }

    /// Greedy with one place to come back to: never worse than pattern times text.
    pub(super) fn matches(&self, text: &str) -> bool {
        let mut parts = self.0.as_slice();
        let mut rest = text.chars();
        let mut retry: Option<(&[Part], std::str::Chars<'_>)> = None;
        loop {
            let stuck = match parts.split_first() {
                Some((Part::Any, after)) => {
                    parts = after;
                    retry = Some((after, rest.clone()));
                    continue;
                }
                Some((part, after)) => match rest.next() {
                    Some(next) if *part == Part::One || *part == Part::Just(next) => {
                        parts = after;
                        continue;
                    }
                    Some(_) => true,
                    None => return false,
                },
                None => rest.next().is_some(),
            };
            if !stuck {
                return true;
            }
            let Some((after, mut from)) = retry.take() else {
                return false;
            };
            if from.next().is_none() {
                return false;
            }
            parts = after;
            rest = from.clone();
            retry = Some((after, from));
        }
    }
}
