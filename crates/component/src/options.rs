//! What can be written under `metadata`, as data: names nobody knows are warned of, and documentation is made of it.
//!
//! A vendor writes one table per group of names next to its `Config` and registers the groups that a type reads:
//!
//! ```ignore
//! pub(crate) const CLIENT: &[Opt] = &[
//!     opt("redisHost", REQUIRED, "`host:port`, or a host").or(&["host"]),
//!     opt("dialTimeout", "5s", "bare numbers are milliseconds"),
//! ];
//! registry.state("redis", Store::connect).options(&[CLIENT, STATE]);
//! ```

use crate::metadata::Metadata;

/// The default of a name that must be there.
pub const REQUIRED: &str = "required";
/// The default of a name that is off or absent unless it is written.
pub const NONE: &str = "";

/// The groups of names that a type reads.
pub type Tables = &'static [&'static [Opt]];

/// One name under `metadata`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opt {
    pub name: &'static str,
    /// Other names for it.
    pub also: &'static [&'static str],
    /// What holds without it, as people write it; [`REQUIRED`] or [`NONE`].
    pub default: &'static str,
    /// What it does, in one sentence of Markdown without a final stop; units if the default does not show them.
    pub about: &'static str,
}

/// One name.
pub const fn opt(name: &'static str, default: &'static str, about: &'static str) -> Opt {
    Opt {
        name,
        also: &[],
        default,
        about,
    }
}

impl Opt {
    /// With other names for the same.
    pub const fn or(self, also: &'static [&'static str]) -> Self {
        Self { also, ..self }
    }

    /// Whether it is written so, in any case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name) || self.also.iter().any(|also| also.eq_ignore_ascii_case(name))
    }
}

/// What the runtime reads of the metadata of every component of a category, whoever made it.
pub fn common(category: &str) -> &'static [Opt] {
    match category {
        "state" => STATE,
        "pubsub" => PUBSUB,
        "bindings" => BINDINGS,
        "lock" => &[KEY_PREFIX],
        _ => &[],
    }
}

const KEY_PREFIX: Opt = opt(
    "keyPrefix",
    "appid",
    "what keys begin with: `appid`, `name` (of the component), `namespace`, `none`, or a text",
);
const STATE: &[Opt] = &[
    KEY_PREFIX,
    opt(
        "primaryEncryptionKey",
        NONE,
        "key that values are encrypted with, from a secret store",
    ),
    opt(
        "secondaryEncryptionKey",
        NONE,
        "key that older values were encrypted with",
    ),
    opt("actorStateStore", "false", "keeps the state of actors"),
    opt(
        "outboxPublishPubsub",
        NONE,
        "broker to which transactions publish",
    ),
    opt("outboxPublishTopic", NONE, "topic to which transactions publish"),
    opt(
        "outboxPubsub",
        "`outboxPublishPubsub`",
        "broker of the outbox' own topic",
    ),
    opt(
        "outboxDiscardWhenMissingState",
        "false",
        "drops events whose record is not in the store",
    ),
];
const PUBSUB: &[Opt] = &[
    opt(
        "consumerID",
        "the app id",
        "name of the group: sidecars of one group share the events",
    ),
    opt(
        "allowedTopics",
        NONE,
        "topics that may be used at all, with commas between",
    ),
    opt(
        "protectedTopics",
        NONE,
        "topics that only apps named in a scope may use",
    ),
    opt(
        "publishingScopes",
        NONE,
        "who may publish where: `app=topic,topic;app=`",
    ),
    opt(
        "subscriptionScopes",
        NONE,
        "who may subscribe to what, written likewise",
    ),
];
const BINDINGS: &[Opt] = &[
    opt(
        "direction",
        NONE,
        "`input`, `output`, or both with a comma between; without it, the app is asked",
    ),
    opt(
        "route",
        "the component's name",
        "path of the app to which events are sent",
    ),
];

/// The names in `metadata` that none of the tables has.
pub(crate) fn unknown(tables: Tables, metadata: &Metadata) -> impl Iterator<Item = &str> {
    metadata.iter().map(|(name, _)| name).filter(move |name| {
        let known = |table: &[Opt]| table.iter().any(|option| option.is(name));
        !tables.iter().any(|table| known(table)) && ![STATE, PUBSUB, BINDINGS].into_iter().any(known)
    })
}

#[cfg(test)]
mod tests {
    use super::{NONE, Opt, REQUIRED, opt, unknown};
    use crate::metadata::Metadata;

    const TABLE: &[Opt] = &[
        opt("host", REQUIRED, "where").or(&["url"]),
        opt("tls", NONE, "how"),
    ];

    #[test]
    fn names_in_any_case_and_other_names_are_known() {
        for (name, known) in [
            ("host", true),
            ("HOST", true),
            ("Url", true),
            ("tls", true),
            ("keyPrefix", true),
            ("consumerid", true),
            ("hosts", false),
            ("", false),
        ] {
            let metadata: Metadata = [(name, "x")].into_iter().collect();
            let found: Vec<&str> = unknown(&[TABLE], &metadata).collect();
            assert_eq!(found.is_empty(), known, "{name}");
        }
    }
}
