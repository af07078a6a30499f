//! State stores.

mod bulk;
mod cases;
pub mod churn;
mod races;
mod values;

use outrigger_component::error::{Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::state::query::Query;
use outrigger_component::state::{
    Concurrency, Delete, Features, Get, Item, KeysLike, Set, StateStore, Write,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// One case: steps on keys of its own.
pub(crate) struct Case {
    pub name: &'static str,
    /// Whether the store must be able to do this.
    pub applies: fn(&Features) -> bool,
    pub steps: &'static [Step],
}

/// One request and what must come of it. Keys are prefixed, so cases do not meet.
pub(crate) enum Step {
    Set(Change, Expect),
    Delete(Change, Expect),
    /// Sets and deletes (a change without a value deletes), all or nothing.
    Transact(&'static [Change], Expect),
    /// Reads: the value, or that there is none.
    Get(&'static str, Option<&'static str>),
    /// Reads an expiry that lies between these many seconds from now, or that there is none. A store need not tell.
    Expires(&'static str, Option<(i64, i64)>),
    /// Remembers a key's tag under a name.
    Remember(&'static str, &'static str),
    /// The key's tag is another than the one remembered.
    Differs(&'static str, &'static str),
    BulkGet(&'static [(&'static str, Option<&'static str>)]),
    DeleteWithPrefix(&'static str, u64),
    /// Pattern, page size, the keys of each page in any order.
    KeysLike(&'static str, Option<u32>, &'static [&'static str]),
    Wait(Duration),
}

#[derive(Clone, Copy)]
pub(crate) struct Change {
    pub key: &'static str,
    pub value: &'static str,
    pub tag: Tag,
    pub first_write: bool,
    pub ttl: &'static str,
}

#[derive(Clone, Copy)]
pub(crate) enum Tag {
    None,
    /// As an empty text, which is the same as none.
    Empty,
    /// One that was remembered.
    Remembered(&'static str),
    /// One that the store could have given and did not.
    Stale,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    Done,
    Fails(Kind),
}

/// How the store may differ, beside what it claims.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nature {
    /// Keys have no spaces and no letters beyond ASCII.
    pub plain_keys: bool,
    /// How long after its time a value may still be there.
    pub late: Duration,
}

/// [`run_as`] for a store that differs in nothing.
///
/// # Panics
/// When the store does not do what it claims.
pub async fn run(store: &dyn StateStore, prefix: &str) {
    run_as(store, prefix, Nature::default()).await;
}

/// Runs all cases that apply. `prefix` keeps apart runs on the same server.
///
/// # Panics
/// When the store does not do what it claims.
pub async fn run_as(store: &dyn StateStore, prefix: &str, nature: Nature) {
    store.ping().await.expect("the store is there");
    let features = store.features();
    for case in cases::ALL.iter().filter(|case| (case.applies)(&features)) {
        let mut run = Run {
            store,
            case: case.name,
            prefix: format!("{prefix}||{}-", case.name.replace(' ', "-")),
            late: nature.late,
            tags: BTreeMap::new(),
        };
        for (number, step) in case.steps.iter().enumerate() {
            run.step(number, step).await;
        }
    }
    values::all(store, &format!("{prefix}||values-"), nature).await;
    bulk::all(store, &format!("{prefix}||bulk-")).await;
    if features.etag {
        races::all(store, &format!("{prefix}||races-")).await;
    }
    unclaimed(store, &features, prefix).await;
}

/// What is not claimed must be refused.
async fn unclaimed(store: &dyn StateStore, features: &Features, prefix: &str) {
    let refused = |what: &str, kind: Option<Kind>| {
        assert_eq!(
            kind,
            Some(Kind::Unsupported),
            "{what} is not claimed and must answer Unsupported"
        );
    };
    if !features.transactional {
        let set = Set {
            key: format!("{prefix}||t"),
            ..Set::default()
        };
        let result = store.transact(vec![Write::Set(set)], &Metadata::new()).await;
        refused("transact", result.err().map(|error| error.kind));
    }
    if !features.delete_with_prefix {
        let result = store.delete_with_prefix(prefix).await;
        refused("delete_with_prefix", result.err().map(|error| error.kind));
    }
    if features.query {
        query(store, prefix).await;
    }
    if !features.keys_like {
        let like = KeysLike {
            pattern: "%".to_owned(),
            ..KeysLike::default()
        };
        let result = store.keys_like(&like).await;
        refused("keys_like", result.err().map(|error| error.kind));
    }
}

/// Filter, order and pages over the wire of one store; the language itself has tests of its own.
async fn query(store: &dyn StateStore, prefix: &str) {
    let prefix = format!("{prefix}-query||");
    for (key, value) in [
        ("a", r#"{"n":1,"on":true}"#),
        ("b", r#"{"n":3,"on":true}"#),
        ("c", r#"{"n":2,"on":true}"#),
        ("d", r#"{"n":9,"on":false}"#),
        ("below||e", r#"{"n":9,"on":true}"#),
    ] {
        let set = Set {
            key: format!("{prefix}{key}"),
            value: value.as_bytes().into(),
            is_json: true,
            ..Set::default()
        };
        store.set(set).await.expect("a plain write");
    }
    let text = br#"{"filter":{"EQ":{"on":true}},"sort":[{"key":"n","order":"DESC"}],"page":{"limit":2}}"#;
    let mut query = Query {
        prefix: prefix.clone(),
        ..Query::parse(text).expect("a query that is right")
    };
    let mut keys = Vec::new();
    loop {
        let page = store.query(&query).await.expect("a query");
        assert!(page.results.len() <= 2, "a page of {}", page.results.len());
        keys.extend(page.results.into_iter().map(|found| found.key));
        query.token = page.token;
        if query.token.is_none() {
            break;
        }
    }
    let expected = ["b", "c", "a"].map(|key| format!("{prefix}{key}"));
    assert_eq!(keys, expected, "keys of a query");
}

struct Run<'a> {
    store: &'a dyn StateStore,
    case: &'static str,
    prefix: String,
    late: Duration,
    tags: BTreeMap<&'static str, String>,
}

impl Run<'_> {
    async fn step(&mut self, number: usize, step: &Step) {
        let at = format!("case {:?}, step {}", self.case, number + 1);
        match step {
            Step::Set(change, expect) => {
                let result = self.store.set(self.set(change)).await;
                self.check(&at, &result, *expect);
            }
            Step::Delete(change, expect) => {
                let result = self.store.delete(self.delete(change)).await;
                self.check(&at, &result, *expect);
            }
            Step::Transact(changes, expect) => {
                let write = |change: &Change| match change.value {
                    "" => Write::Delete(self.delete(change)),
                    _ => Write::Set(self.set(change)),
                };
                let result = self
                    .store
                    .transact(changes.iter().map(write).collect(), &Metadata::new())
                    .await;
                self.check(&at, &result, *expect);
            }
            Step::Get(key, expect) => {
                let item = self.get(&at, key).await;
                assert_eq!(text(item.as_ref()), *expect, "{at}: value of {key}");
            }
            Step::Expires(key, expect) => {
                let item = self
                    .get(&at, key)
                    .await
                    .unwrap_or_else(|| panic!("{at}: {key} is there"));
                let expiry = item.metadata.get("ttlExpireTime");
                match (expiry, expect) {
                    (None, _) => {}
                    (Some(time), Some((from, to))) => {
                        let left = seconds_from_now(time);
                        assert!(
                            (*from..=*to).contains(&left),
                            "{at}: {key} expires in {left} s, not {from} to {to}"
                        );
                    }
                    (Some(time), None) => panic!("{at}: {key} expires at {time}, and should not"),
                }
            }
            Step::Remember(key, name) => {
                let tag = self.tag(&at, key).await;
                self.tags.insert(name, tag);
            }
            Step::Differs(key, name) => {
                let tag = self.tag(&at, key).await;
                assert_ne!(Some(&tag), self.tags.get(name), "{at}: tag of {key}");
            }
            Step::BulkGet(expect) => self.bulk_get(&at, expect).await,
            Step::DeleteWithPrefix(prefix, expect) => {
                let deleted = self
                    .store
                    .delete_with_prefix(&format!("{}{prefix}", self.prefix))
                    .await;
                assert_eq!(
                    deleted.unwrap_or_else(|error| panic!("{at}: {error}")),
                    *expect,
                    "{at}: keys deleted"
                );
            }
            Step::KeysLike(pattern, size, expect) => self.keys_like(&at, pattern, *size, expect).await,
            Step::Wait(time) => tokio::time::sleep(*time + self.late).await,
        }
    }

    fn check(&self, at: &str, result: &Result<()>, expect: Expect) {
        match (result, expect) {
            (Ok(()), Expect::Done) => {}
            (Err(error), Expect::Fails(kind)) if error.kind == kind => {}
            _ => panic!("{at}: got {result:?}, expected {expect:?}"),
        }
    }

    async fn get(&self, at: &str, key: &str) -> Option<Item> {
        let get = Get {
            key: self.key(key),
            ..Get::default()
        };
        self.store
            .get(&get)
            .await
            .unwrap_or_else(|error| panic!("{at}: {error}"))
    }

    async fn tag(&self, at: &str, key: &str) -> String {
        let item = self
            .get(at, key)
            .await
            .unwrap_or_else(|| panic!("{at}: {key} is there"));
        item.etag.unwrap_or_else(|| panic!("{at}: {key} has a tag"))
    }

    async fn bulk_get(&self, at: &str, expect: &[(&str, Option<&str>)]) {
        let gets: Vec<Get> = expect
            .iter()
            .map(|(key, _)| Get {
                key: self.key(key),
                ..Get::default()
            })
            .collect();
        // A store need not have this call; the runtime reads one by one then.
        let Some(found) = self.store.bulk_get(&gets).await else {
            return;
        };
        assert_eq!(found.len(), expect.len(), "{at}: one answer for each key");
        for (found, (key, value)) in found.iter().zip(expect) {
            let found = found
                .as_ref()
                .unwrap_or_else(|error| panic!("{at}: {key}: {error}"));
            assert_eq!(text(found.as_ref()), *value, "{at}: value of {key}");
        }
    }

    async fn keys_like(&self, at: &str, pattern: &str, size: Option<u32>, expect: &[&str]) {
        let mut like = KeysLike {
            pattern: format!("{}{pattern}", self.prefix),
            page_size: size,
            continuation: None,
        };
        let mut keys = Vec::new();
        loop {
            let page = self
                .store
                .keys_like(&like)
                .await
                .unwrap_or_else(|error| panic!("{at}: {error}"));
            if let Some(size) = size {
                assert!(
                    page.keys.len() <= size as usize,
                    "{at}: a page of {} keys",
                    page.keys.len()
                );
            }
            keys.extend(page.keys);
            like.continuation = page.continuation;
            if like.continuation.is_none() {
                break;
            }
        }
        keys.sort();
        let expect: Vec<String> = expect.iter().map(|key| self.key(key)).collect();
        assert_eq!(keys, expect, "{at}: keys like {pattern}");
    }

    fn set(&self, change: &Change) -> Set {
        Set {
            key: self.key(change.key),
            value: change.value.as_bytes().into(),
            etag: self.resolve(change.tag),
            concurrency: concurrency(change),
            metadata: if change.ttl.is_empty() {
                Metadata::new()
            } else {
                Metadata::from_iter([("ttlInSeconds", change.ttl)])
            },
            ..Set::default()
        }
    }

    fn delete(&self, change: &Change) -> Delete {
        Delete {
            key: self.key(change.key),
            etag: self.resolve(change.tag),
            concurrency: concurrency(change),
            ..Delete::default()
        }
    }

    fn resolve(&self, tag: Tag) -> Option<String> {
        match tag {
            Tag::None => None,
            Tag::Empty => Some(String::new()),
            Tag::Remembered(name) => Some(
                self.tags
                    .get(name)
                    .expect("remembered in an earlier step")
                    .clone(),
            ),
            Tag::Stale => Some("999999999".to_owned()),
        }
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}

fn concurrency(change: &Change) -> Concurrency {
    if change.first_write {
        Concurrency::FirstWrite
    } else {
        Concurrency::Unspecified
    }
}

fn text(item: Option<&Item>) -> Option<&str> {
    item.map(|item| std::str::from_utf8(&item.value).expect("the cases store text"))
}

/// `time` is RFC 3339 in UTC.
fn seconds_from_now(time: &str) -> i64 {
    let moment: jiff::Timestamp = time
        .parse()
        .unwrap_or_else(|error| panic!("{time:?} is not RFC 3339: {error}"));
    assert!(time.ends_with('Z'), "{time:?} is in UTC");
    moment.as_second() - jiff::Timestamp::now().as_second()
}
