//! Which subscriptions the app has, from documents and from its own word.
//!
//! COMPAT(pkg/runtime/compstore/subscriptions.go, pkg/runtime/processor/subscriptions.go): one subscription per broker
//! and topic. The app's own word wins over a document, the first document over later ones, the app's last word over
//! earlier ones; of documents with the same name the last counts, in its place.

use super::active::Kind;
use super::routes::{Invalid, Routes};
use outrigger_channel::app::{Bulk, Rule, Subscription};
use outrigger_resources::subscription::Subscription as Document;
use std::collections::HashMap;

/// A document that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("subscription {name:?}: {source}")]
pub struct Error {
    name: String,
    source: Invalid,
}

/// The documents for this app, as subscriptions. Their expressions are compiled once here, so that a mistake in one
/// stops the start, not a message.
pub(super) fn read(documents: Vec<Document>, app_id: &str) -> Result<Vec<Subscription>, Error> {
    let named = read_named(documents, app_id)?;
    Ok(named.into_iter().map(|(_, subscription)| subscription).collect())
}

/// With the names of the documents.
pub(super) fn read_named(
    documents: Vec<Document>,
    app_id: &str,
) -> Result<Vec<(String, Subscription)>, Error> {
    let mut named: Vec<(String, Subscription)> = Vec::new();
    for document in documents {
        if !document.scopes.is_empty() && !document.scopes.iter().any(|scope| scope == app_id) {
            continue;
        }
        named.retain(|(name, _)| *name != document.name);
        let (name, subscription) = subscription(document);
        if let Err(invalid) = Routes::compile(&subscription.rules) {
            return Err(Error {
                name,
                source: invalid,
            });
        }
        named.push((name, subscription));
    }
    Ok(named)
}

fn subscription(document: Document) -> (String, Subscription) {
    let mut rules: Vec<Rule> = document
        .routes
        .rules
        .into_iter()
        .map(|rule| Rule {
            expression: rule.matches,
            path: rule.path,
        })
        .collect();
    if !document.routes.default.is_empty() {
        rules.push(Rule {
            expression: String::new(),
            path: document.routes.default,
        });
    }
    let subscription = Subscription {
        pubsub: document.pubsub,
        topic: document.topic,
        metadata: document.metadata.into_iter().collect(),
        rules,
        dead_letter_topic: document.dead_letter_topic,
        bulk: Bulk {
            enabled: document.bulk.enabled,
            max_messages: document.bulk.max_messages,
            max_await_ms: document.bulk.max_await_ms,
        },
    };
    (document.name, subscription)
}

/// What is to run.
pub(super) fn merge<'a>(
    declared: &'a [Subscription],
    programmatic: &'a [Subscription],
) -> Vec<(Kind, &'a Subscription)> {
    let mut merged: Vec<(Kind, &Subscription)> = Vec::with_capacity(declared.len() + programmatic.len());
    let mut places = HashMap::new();
    for subscription in declared {
        places
            .entry((&subscription.pubsub, &subscription.topic))
            .or_insert_with(|| {
                merged.push((Kind::Declarative, subscription));
                merged.len() - 1
            });
    }
    for subscription in programmatic {
        let next = merged.len();
        let place = *places
            .entry((&subscription.pubsub, &subscription.topic))
            .or_insert(next);
        match merged.get_mut(place) {
            Some(taken) => *taken = (Kind::Programmatic, subscription),
            None => merged.push((Kind::Programmatic, subscription)),
        }
    }
    merged
}

#[cfg(test)]
mod tests;
