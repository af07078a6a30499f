//! What is subscribed to, as `GET /v1.0/metadata` shows it.

use outrigger_channel::app::{Rule, Subscription};
use outrigger_component::metadata::Metadata;
use std::collections::BTreeMap;

/// Who asked for a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A Subscription document.
    Declarative,
    /// The app, when it was asked.
    Programmatic,
    /// The app, by a stream it holds open.
    Streaming,
}

/// One subscription. Listed from when it is known, whether or not its broker has accepted it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Active {
    pub kind: Kind,
    pub pubsub: String,
    pub topic: String,
    pub metadata: Metadata,
    pub rules: Vec<Rule>,
    /// Empty: none.
    pub dead_letter_topic: String,
}

/// Everything that is subscribed to.
#[derive(Debug, Clone, Default)]
pub struct Lists {
    /// Of the app, one per broker and topic.
    pub(super) app: Vec<Active>,
    pub(super) streams: BTreeMap<u64, Active>,
    pub(super) next: u64,
}

impl Lists {
    pub fn all(&self) -> impl Iterator<Item = &Active> {
        self.app.iter().chain(self.streams.values())
    }
}

impl Active {
    pub(super) fn of(kind: Kind, subscription: &Subscription) -> Self {
        Self {
            kind,
            pubsub: subscription.pubsub.clone(),
            topic: subscription.topic.clone(),
            metadata: subscription.metadata.clone(),
            rules: subscription.rules.clone(),
            dead_letter_topic: subscription.dead_letter_topic.clone(),
        }
    }
}
