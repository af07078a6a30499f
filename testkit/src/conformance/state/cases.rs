//! What a state store must do, as data.

use super::Expect::{Done, Fails};
use super::{Case, Change, Expect, Step, Tag};
use outrigger_component::error::Kind;
use std::time::Duration;

const MISMATCH: Expect = Fails(Kind::EtagMismatch);

/// A plain write of `value`, or a deletion where there is none.
const fn to(key: &'static str, value: &'static str) -> Change {
    Change {
        key,
        value,
        tag: Tag::None,
        first_write: false,
        ttl: "",
    }
}

const fn tagged(key: &'static str, value: &'static str, tag: Tag) -> Change {
    Change {
        tag,
        ..to(key, value)
    }
}

const fn first(key: &'static str, value: &'static str) -> Change {
    Change {
        first_write: true,
        ..to(key, value)
    }
}

const fn lasting(key: &'static str, value: &'static str, ttl: &'static str) -> Change {
    Change {
        ttl,
        ..to(key, value)
    }
}

pub(super) const ALL: &[Case] = &[
    Case {
        name: "values come back as they were set",
        applies: |_| true,
        steps: &[
            Step::Get("a", None),
            Step::Set(to("a", "1"), Done),
            Step::Get("a", Some("1")),
            Step::Set(to("a", "{\"b\": [\"\u{e9}\\n\"]}"), Done),
            Step::Get("a", Some("{\"b\": [\"\u{e9}\\n\"]}")),
            Step::Set(to("a", ""), Done),
            Step::Get("a", Some("")),
        ],
    },
    Case {
        name: "deleting",
        applies: |_| true,
        steps: &[
            Step::Delete(to("a", ""), Done),
            Step::Set(to("a", "1"), Done),
            Step::Delete(to("a", ""), Done),
            Step::Get("a", None),
            Step::Delete(to("a", ""), Done),
        ],
    },
    Case {
        name: "reading many",
        applies: |_| true,
        steps: &[
            Step::Set(to("a", "1"), Done),
            Step::Set(to("c", "3"), Done),
            Step::BulkGet(&[("c", Some("3")), ("b", None), ("a", Some("1"))]),
        ],
    },
    Case {
        name: "tags guard writes",
        applies: |features| features.etag,
        steps: &[
            Step::Set(to("a", "1"), Done),
            Step::Remember("a", "old"),
            Step::Set(tagged("a", "2", Tag::Remembered("old")), Done),
            Step::Differs("a", "old"),
            Step::Set(tagged("a", "3", Tag::Remembered("old")), MISMATCH),
            Step::Get("a", Some("2")),
            Step::Set(tagged("a", "4", Tag::Stale), MISMATCH),
            Step::Set(tagged("a", "5", Tag::Empty), Done),
            Step::Set(to("a", "6"), Done),
            Step::Get("a", Some("6")),
        ],
    },
    Case {
        name: "tags guard deletes",
        applies: |features| features.etag,
        steps: &[
            Step::Set(to("a", "1"), Done),
            Step::Remember("a", "old"),
            Step::Delete(tagged("a", "", Tag::Stale), MISMATCH),
            Step::Get("a", Some("1")),
            Step::Set(to("a", "2"), Done),
            Step::Delete(tagged("a", "", Tag::Remembered("old")), MISMATCH),
            Step::Remember("a", "new"),
            Step::Delete(tagged("a", "", Tag::Remembered("new")), Done),
            Step::Get("a", None),
        ],
    },
    Case {
        name: "first write wins",
        applies: |features| features.etag,
        steps: &[
            Step::Set(first("a", "1"), Done),
            Step::Set(first("a", "2"), MISMATCH),
            Step::Get("a", Some("1")),
            Step::Remember("a", "tag"),
            Step::Set(
                Change {
                    tag: Tag::Remembered("tag"),
                    ..first("a", "3")
                },
                Done,
            ),
            Step::Get("a", Some("3")),
            Step::Delete(to("a", ""), Done),
            Step::Set(first("a", "4"), Done),
            Step::Get("a", Some("4")),
            Step::Set(
                Change {
                    tag: Tag::Empty,
                    ..first("a", "5")
                },
                MISMATCH,
            ),
            Step::Set(
                Change {
                    tag: Tag::Stale,
                    ..first("a", "6")
                },
                MISMATCH,
            ),
            Step::Get("a", Some("4")),
        ],
    },
    Case {
        name: "values expire",
        applies: |features| features.ttl,
        steps: &[
            Step::Set(lasting("a", "1", "1"), Done),
            Step::Set(lasting("b", "1", "1000"), Done),
            Step::Set(lasting("c", "1", "-1"), Done),
            Step::Get("a", Some("1")),
            Step::Expires("b", Some((990, 1000))),
            Step::Set(lasting("d", "1", "1000"), Done),
            Step::Set(lasting("d", "2", "-1"), Done),
            Step::Expires("d", None),
            Step::Set(lasting("e", "1", "1000"), Done),
            Step::Set(to("e", "2"), Done),
            Step::Expires("e", None),
            Step::Set(lasting("f", "1", "1000"), Done),
            Step::Delete(to("f", ""), Done),
            Step::Set(to("f", "2"), Done),
            Step::Expires("f", None),
            Step::Wait(Duration::from_millis(1400)),
            Step::Get("a", None),
            Step::Get("b", Some("1")),
            Step::Get("c", Some("1")),
            Step::Set(to("a", "2"), Done),
            Step::Wait(Duration::from_millis(1200)),
            Step::Get("a", Some("2")),
        ],
    },
    Case {
        name: "an expired value is no obstacle to a first write",
        applies: |features| features.ttl && features.etag,
        steps: &[
            Step::Set(lasting("a", "1", "1"), Done),
            Step::Set(first("a", "2"), MISMATCH),
            Step::Wait(Duration::from_millis(1300)),
            Step::Set(first("a", "3"), Done),
            Step::Get("a", Some("3")),
        ],
    },
    Case {
        name: "lifetimes must be numbers",
        applies: |features| features.ttl,
        steps: &[
            Step::Set(lasting("a", "1", "soon"), Fails(Kind::Invalid)),
            Step::Get("a", None),
        ],
    },
    Case {
        name: "transactions",
        applies: |features| features.transactional,
        steps: &[
            Step::Set(to("a", "1"), Done),
            Step::Transact(&[to("b", "2"), to("c", "3"), to("a", "")], Done),
            Step::Get("a", None),
            Step::Get("b", Some("2")),
            Step::Get("c", Some("3")),
            Step::Transact(&[to("b", "4"), to("b", "5")], Done),
            Step::Get("b", Some("5")),
            Step::Transact(&[], Done),
            Step::Transact(&[to("absent", "")], Done),
        ],
    },
    // COMPAT(components-contrib tests/conformance/state): "transaction-order".
    Case {
        name: "transactions are done in order",
        applies: |features| features.transactional,
        steps: &[
            Step::Set(to("a", "1"), Done),
            Step::Transact(&[to("a", ""), to("b", "2"), to("b", ""), to("c", "3")], Done),
            Step::Get("a", None),
            Step::Get("b", None),
            Step::Get("c", Some("3")),
        ],
    },
    Case {
        name: "transactions are all or nothing",
        applies: |features| features.transactional && features.etag,
        steps: &[
            Step::Set(to("a", "1"), Done),
            Step::Transact(&[to("b", "2"), tagged("a", "3", Tag::Stale)], MISMATCH),
            Step::Get("a", Some("1")),
            Step::Get("b", None),
            Step::Transact(&[to("b", "2"), first("a", "3")], MISMATCH),
            Step::Get("b", None),
            Step::Remember("a", "tag"),
            Step::Transact(&[to("b", "2"), tagged("a", "3", Tag::Remembered("tag"))], Done),
            Step::Get("a", Some("3")),
            Step::Get("b", Some("2")),
        ],
    },
    Case {
        name: "transactions with lifetimes",
        applies: |features| features.transactional && features.ttl,
        steps: &[
            Step::Transact(&[lasting("a", "1", "1"), lasting("b", "1", "1000")], Done),
            Step::Wait(Duration::from_millis(1400)),
            Step::Get("a", None),
            Step::Get("b", Some("1")),
        ],
    },
    Case {
        name: "deleting by prefix",
        applies: |features| features.delete_with_prefix,
        steps: &[
            Step::Set(to("p||a", "1"), Done),
            Step::Set(to("p||b", "1"), Done),
            Step::Set(to("p||b||c", "1"), Done),
            Step::Set(to("q||a", "1"), Done),
            Step::DeleteWithPrefix("p||", 2),
            Step::Get("p||a", None),
            Step::Get("p||b", None),
            Step::Get("p||b||c", Some("1")),
            Step::Get("q||a", Some("1")),
            Step::DeleteWithPrefix("nothing", 0),
        ],
    },
    Case {
        name: "keys by pattern",
        applies: |features| features.keys_like,
        steps: &[
            Step::Set(to("a1", "1"), Done),
            Step::Set(to("a2", "1"), Done),
            Step::Set(to("a12", "1"), Done),
            Step::Set(to("b*[1]", "1"), Done),
            Step::Set(to("c%d", "1"), Done),
            Step::KeysLike("a%", None, &["a1", "a12", "a2"]),
            Step::KeysLike("a_", None, &["a1", "a2"]),
            Step::KeysLike("%2", None, &["a12", "a2"]),
            Step::KeysLike("b*[1]", None, &["b*[1]"]),
            Step::KeysLike("_*%", None, &["b*[1]"]),
            Step::KeysLike("c\\%d", None, &["c%d"]),
            Step::KeysLike("c\\_d", None, &[]),
            Step::KeysLike("a%", Some(2), &["a1", "a12", "a2"]),
            Step::KeysLike("%", Some(1), &["a1", "a12", "a2", "b*[1]", "c%d"]),
        ],
    },
];
