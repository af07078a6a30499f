//! From a list of writes to what etcd takes: guards on what is stored, and one operation per key.
//!
//! etcd refuses a transaction that touches a key twice. Of several writes to a key only the last remains; the guards of the
//! later ones are judged here, by what the earlier ones leave.

use bytes::Bytes;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::state::{Concurrency, Ttl, Write, ttl};
use std::collections::HashMap;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub guards: Vec<Guard>,
    /// Different keys, in the order of their first writes.
    pub steps: Vec<Step>,
}

/// That a key was last written at a revision; zero is that it does not exist.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Guard {
    pub key: String,
    pub revision: i64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Put {
        key: String,
        value: Bytes,
        /// Seconds.
        ttl: Option<u32>,
    },
    Delete {
        key: String,
    },
}

impl Plan {
    /// # Errors
    /// `Invalid` for lifetimes; `EtagMismatch` for guards that cannot hold, whatever is stored.
    pub(super) fn new(writes: Vec<Write>) -> Result<Self> {
        let mut plan = Self::default();
        let mut places: HashMap<String, usize> = HashMap::with_capacity(writes.len());
        for write in writes {
            let (etag, concurrency) = match &write {
                Write::Set(set) => (set.etag.as_deref(), set.concurrency),
                Write::Delete(delete) => (delete.etag.as_deref(), delete.concurrency),
            };
            let etag = etag.filter(|etag| !etag.is_empty());
            let place = places.get(write.key()).copied();
            let earlier = place.and_then(|place| plan.steps.get(place));
            match (etag, concurrency, earlier) {
                // The tag that the earlier step will have is not known to anybody.
                (Some(etag), _, Some(_)) => return Err(differs(write.key(), etag)),
                (Some(etag), _, None) => plan.guards.push(Guard {
                    revision: revision(etag).ok_or_else(|| differs(write.key(), etag))?,
                    key: write.key().to_owned(),
                }),
                (None, Concurrency::FirstWrite, Some(Step::Put { .. })) => return Err(exists()),
                (None, Concurrency::FirstWrite, None) => plan.guards.push(Guard {
                    key: write.key().to_owned(),
                    revision: 0,
                }),
                (None, _, _) => {}
            }
            let step = Step::new(write)?;
            if let Some(known) = place.and_then(|place| plan.steps.get_mut(place)) {
                *known = step;
            } else {
                places.insert(step.key().to_owned(), plan.steps.len());
                plan.steps.push(step);
            }
        }
        Ok(plan)
    }

    /// Which guard failed. `found` are the revisions of the guarded keys, in their order.
    pub(super) fn mismatch(&self, prefix: &str, found: impl Iterator<Item = i64>) -> Error {
        let failed = self
            .guards
            .iter()
            .zip(found)
            .find(|(guard, found)| guard.revision != *found);
        match failed {
            Some((Guard { revision: 0, .. }, _)) => exists(),
            Some((Guard { key, .. }, 0)) => Error::new(
                Kind::EtagMismatch,
                format!("state not exist or expired for key={prefix}{key}"),
            ),
            Some((Guard { key, revision }, current)) => Error::new(
                Kind::EtagMismatch,
                format!("state etag not match for key={prefix}{key}: current={current}, expect={revision}"),
            ),
            None => Error::internal("etcd refused a write whose guards all hold"),
        }
    }
}

impl Step {
    fn new(write: Write) -> Result<Self> {
        Ok(match write {
            Write::Set(set) => Self::Put {
                ttl: match ttl(&set.metadata)? {
                    Ttl::Seconds(seconds) => Some(seconds),
                    Ttl::Unset | Ttl::Never => None,
                },
                key: set.key,
                value: set.value,
            },
            Write::Delete(delete) => Self::Delete { key: delete.key },
        })
    }

    fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// A tag that can be one: COMPAT(components-contrib state/etcd) compares texts, so `01` is not `1`.
fn revision(etag: &str) -> Option<i64> {
    let revision: i64 = etag.parse().ok()?;
    (revision > 0 && revision.to_string() == etag).then_some(revision)
}

fn differs(key: &str, etag: &str) -> Error {
    Error::new(
        Kind::EtagMismatch,
        format!("state etag not match for key={key}: expect={etag}"),
    )
}

fn exists() -> Error {
    Error::new(Kind::EtagMismatch, "item already exists and no etag was passed")
}

#[cfg(test)]
mod tests {
    use super::{Guard, Plan, Step};
    use outrigger_component::error::Kind;
    use outrigger_component::state::{Concurrency, Delete, Set, Write};

    fn set(key: &str, value: &str, etag: &str, first: bool) -> Write {
        Write::Set(Set {
            key: key.to_owned(),
            value: value.as_bytes().to_vec().into(),
            etag: (!etag.is_empty()).then(|| etag.to_owned()),
            concurrency: if first {
                Concurrency::FirstWrite
            } else {
                Concurrency::Unspecified
            },
            ..Set::default()
        })
    }

    fn delete(key: &str, etag: &str, first: bool) -> Write {
        Write::Delete(Delete {
            key: key.to_owned(),
            etag: Some(etag.to_owned()),
            concurrency: if first {
                Concurrency::FirstWrite
            } else {
                Concurrency::Unspecified
            },
            ..Delete::default()
        })
    }

    fn told(plan: &Plan) -> String {
        let guards = plan
            .guards
            .iter()
            .map(|Guard { key, revision }| format!("{key}@{revision}"));
        let steps = plan.steps.iter().map(|step| match step {
            Step::Put { key, value, .. } => format!("{key}={}", String::from_utf8_lossy(value)),
            Step::Delete { key } => format!("-{key}"),
        });
        guards.chain(steps).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn writes_become_guards_and_one_step_per_key() {
        for (writes, expected) in [
            (vec![], Some("")),
            (vec![set("a", "1", "", false)], Some("a=1")),
            (vec![set("a", "1", "7", false)], Some("a@7 a=1")),
            (vec![set("a", "1", "7", true)], Some("a@7 a=1")),
            (vec![set("a", "1", "", true)], Some("a@0 a=1")),
            (vec![delete("a", "", true)], Some("a@0 -a")),
            (vec![delete("a", "7", false)], Some("a@7 -a")),
            (
                vec![
                    set("a", "1", "", false),
                    delete("b", "", false),
                    set("a", "2", "", false),
                ],
                Some("a=2 -b"),
            ),
            (
                vec![delete("a", "7", false), set("a", "2", "", true)],
                Some("a@7 a=2"),
            ),
            // Guards that no state of the store can meet.
            (vec![set("a", "1", "", false), set("a", "2", "7", false)], None),
            (vec![delete("a", "", false), set("a", "2", "7", false)], None),
            (vec![set("a", "1", "", false), set("a", "2", "", true)], None),
            (vec![set("a", "1", "odd", false)], None),
            (vec![set("a", "1", "0", false)], None),
            (vec![set("a", "1", "-1", false)], None),
            (vec![set("a", "1", "07", false)], None),
            (vec![set("a", "1", "99999999999999999999", false)], None),
        ] {
            let asked = format!("{writes:?}");
            match (Plan::new(writes), expected) {
                (Ok(plan), Some(expected)) => assert_eq!(told(&plan), expected, "{asked}"),
                (Err(error), None) => assert_eq!(error.kind, Kind::EtagMismatch, "{asked}"),
                (other, _) => panic!("{asked}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_guard_that_failed_is_named() {
        let plan = Plan::new(vec![
            set("a", "1", "7", false),
            set("b", "1", "", true),
            delete("c", "9", false),
        ])
        .unwrap();
        for (found, expected) in [
            ([7, 5, 9], "item already exists and no etag was passed"),
            ([8, 0, 9], "state etag not match for key=p/a: current=8, expect=7"),
            ([7, 0, 0], "state not exist or expired for key=p/c"),
        ] {
            let error = plan.mismatch("p/", found.into_iter());
            assert_eq!(
                (error.kind, error.message.as_str()),
                (Kind::EtagMismatch, expected)
            );
        }
        assert_eq!(plan.mismatch("p/", [7, 0, 9].into_iter()).kind, Kind::Internal);
    }
}
