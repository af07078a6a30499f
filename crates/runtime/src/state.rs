//! State: key/value with entity tags and transactions, whichever door asks and whichever store keeps it.
//!
//! Requests and answers are those of [`outrigger_component::state`]; keys are as the app wrote them and get the store's
//! [prefix](keys) here. Values are bytes: what a door was given is stored and given back unchanged, [encrypted](encryption)
//! where the component says so.
//!
//! A door first opens the [`Store`] (an unknown store is the first thing that is complained about), then decodes the
//! rest of the request, then calls one method. Each call runs under the component's outbound policy and is counted once.

pub mod bulk;
pub mod encryption;
pub mod keys;

use crate::catalogue::Code;
use crate::catalogue::state as catalogue;
use crate::components::snapshot::{self, Live};
use crate::error::Result;
use crate::outbound::{self, Input};
use crate::pubsub::outbox::Outbox;
use outrigger_component::error::{Error, Kind};
use outrigger_component::metadata::Metadata;
use outrigger_component::state::query::{Page, Query};
use outrigger_component::state::{Delete, Get, Item, Set, Write};
use outrigger_daemon::{metrics, trace};
use outrigger_resiliency::policies::{Flow, Kind as Target, Policies};
use outrigger_resiliency::policy::Policy;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

/// The state building block.
pub struct State {
    components: Live,
    policies: Arc<Policies>,
    metrics: Arc<metrics::Component>,
    outbox: Arc<Outbox>,
}

/// One state store, open for one request.
pub struct Store<'a> {
    block: &'a State,
    store: Arc<snapshot::StateStore>,
}

/// A store that is known to have transactions.
pub struct Transactional<'a>(Store<'a>);

impl State {
    pub fn new(
        components: Live,
        policies: Arc<Policies>,
        metrics: Arc<metrics::Component>,
        outbox: Arc<Outbox>,
    ) -> Self {
        Self {
            components,
            policies,
            metrics,
            outbox,
        }
    }

    /// # Errors
    /// [`catalogue::NOT_CONFIGURED`] when there is no store at all, [`catalogue::NOT_FOUND`] when there is none of that
    /// name.
    pub fn store(&self, name: &str) -> Result<Store<'_>> {
        let components = self.components.now();
        if let Some(store) = components.state_store(name) {
            return Ok(Store {
                block: self,
                store: Arc::clone(store),
            });
        }
        Err(if components.has_state_stores() {
            catalogue::not_found(name)
        } else {
            catalogue::not_configured(name)
        })
    }
}

impl<'a> Store<'a> {
    pub fn name(&self) -> &str {
        &self.store.name
    }

    /// `None` when the key is absent or expired.
    pub async fn get(&self, mut get: Get) -> Result<Option<Item>> {
        let stored = self.stored(&get.key)?;
        let key = std::mem::replace(&mut get.key, stored);
        let store = &self.store.store;
        let item = self
            .call("get", &self.policy(), || store.get(&get))
            .await
            .map_err(|error| catalogue::get_failed(&key, self.name(), text(&error)).caused_by(error))?;
        match &self.store.encryption {
            None => Ok(item),
            Some(keys) => item
                .map(|item| keys.decrypt(item))
                .transpose()
                .map_err(|error| catalogue::get_failed(&key, self.name(), &error).caused_by(error)),
        }
    }

    /// Writes all values. Not atomic: of several, some may be written when the call fails.
    ///
    /// # Errors
    /// [`catalogue::KEY_MISSING`] or [`catalogue::ILLEGAL_KEY`] before anything is written; a save error whose row says
    /// whether an entity tag was the reason.
    pub async fn save(&self, mut sets: Vec<Set>) -> Result<()> {
        for set in &mut sets {
            if set.key.is_empty() {
                return Err(catalogue::key_missing());
            }
            set.key = self.stored(&set.key)?;
        }
        if sets.is_empty() {
            return Ok(());
        }
        if let Some(keys) = &self.store.encryption {
            sets = sets.into_iter().map(|set| keys.encrypt(set)).collect();
        }
        bulk::set(self, sets).await.map_err(|failed| {
            failed.answer(&SAVE, |code, cause| {
                catalogue::save_failed(code, self.name(), cause)
            })
        })
    }

    /// Deleting an absent key succeeds unless a tag was given.
    pub async fn delete(&self, mut delete: Delete) -> Result<()> {
        let stored = self.stored(&delete.key)?;
        let key = std::mem::replace(&mut delete.key, stored);
        let store = &self.store.store;
        let policy = self.policy();
        let mut delete = Input::new(delete, &policy);
        self.call("delete", &policy, || store.delete(delete.take()))
            .await
            .map_err(|error| {
                catalogue::delete_failed(DELETE.code(error.kind), &key, text(&error)).caused_by(error)
            })
    }

    /// Deletes all keys, like [`Store::save`] without atomicity.
    pub async fn delete_bulk(&self, mut deletes: Vec<Delete>) -> Result<()> {
        for delete in &mut deletes {
            delete.key = self.stored(&delete.key)?;
        }
        if deletes.is_empty() {
            return Ok(());
        }
        bulk::delete(self, deletes).await.map_err(|failed| {
            failed.answer(&BULK_DELETE, |code, cause| {
                catalogue::bulk_delete_failed(code, self.name(), cause)
            })
        })
    }

    /// Before a door reads the operations: has this store transactions?
    pub fn transactional(self) -> Result<Transactional<'a>> {
        if self.store.features.transactional {
            Ok(Transactional(self))
        } else {
            Err(catalogue::transactions_unsupported(&self.store.name))
        }
    }

    /// One page of this app's values that match a query, with their keys as the app wrote them.
    ///
    /// # Errors
    /// [`catalogue::QUERY_UNSUPPORTED`] for a store without queries; [`catalogue::QUERY`] for one that encrypts, for a query
    /// that cannot be read, and when the store fails.
    pub async fn query(&self, text: &[u8], metadata: Metadata) -> Result<Page> {
        let failed = |cause: &dyn std::fmt::Display| catalogue::query_failed(self.name(), cause);
        let component = &self.store.store;
        if !self.store.features.query {
            // It says why not.
            return match component.query(&Query::default()).await {
                Err(error) if error.kind != Kind::Unsupported => Err(failed(&error).caused_by(error)),
                _ => Err(catalogue::query_unsupported(self.name())),
            };
        }
        if self.store.encryption.is_some() {
            return Err(failed(&"cannot query encrypted store"));
        }
        let query = Query::parse(text)
            .map_err(|cause| failed(&format_args!("failed to parse JSON query body: {cause}")))?;
        let query = Query {
            prefix: self.store.prefix.as_str().to_owned(),
            metadata,
            ..query
        };
        let mut page = self
            .call("query", &self.policy(), || component.query(&query))
            .await
            .map_err(|error| failed(&error).caused_by(error))?;
        for found in &mut page.results {
            if let Some(key) = found.key.strip_prefix(&query.prefix) {
                found.key = key.to_owned();
            }
        }
        Ok(page)
    }

    fn policy(&self) -> Policy<'_> {
        self.block
            .policies
            .component(&self.store.name, Target::Statestore, Flow::Outbound)
    }

    /// One counted call under the component's policy.
    async fn call<T, F>(
        &self,
        operation: &'static str,
        policy: &Policy<'_>,
        request: impl FnMut() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let started = Instant::now();
        let outcome = outbound::run(policy, request).await;
        self.measure(operation, outcome.is_ok(), started);
        outcome
    }

    fn measure(&self, operation: &'static str, success: bool, started: Instant) {
        self.block
            .metrics
            .state(&self.store.name, operation, success, started.elapsed());
    }

    fn stored(&self, key: &str) -> Result<String> {
        self.store
            .prefix
            .apply(key)
            .map_err(|keys::Illegal(key)| catalogue::illegal_key(&self.store.name, &key))
    }
}

impl Transactional<'_> {
    /// All or nothing, in order. Without operations nothing happens. Publishes what the store's
    /// [outbox](crate::pubsub::outbox) asks for; the events continue `trace`.
    pub async fn transact(
        &self,
        mut writes: Vec<Write>,
        metadata: Metadata,
        trace: Option<&trace::Context>,
    ) -> Result<()> {
        let Self(store) = self;
        for write in &mut writes {
            let key = match write {
                Write::Set(set) => &mut set.key,
                Write::Delete(delete) => &mut delete.key,
            };
            *key = store.stored(key)?;
        }
        if let Some(max) = store.store.features.max_transaction
            && max > 0
            && writes.len() > max
        {
            return Err(catalogue::too_many_operations(store.name(), writes.len(), max));
        }
        if writes.is_empty() {
            return Ok(());
        }
        let outbox = &store.block.outbox;
        let flight = match &store.store.outbox {
            Some(settings) => {
                let flight = outbox.begin(&store.store, settings, &mut writes, trace).await?;
                flight.map(|flight| (settings, flight))
            }
            None => None,
        };
        if writes.is_empty() {
            return Ok(());
        }
        // After the outbox, whose events are what the app wrote; its records hold them, and are encrypted like all else.
        if let Some(keys) = &store.store.encryption {
            let encrypt = |write| match write {
                Write::Set(set) => Write::Set(keys.encrypt(set)),
                other => other,
            };
            writes = writes.into_iter().map(encrypt).collect();
        }
        let metadata = &metadata;
        let component = &store.store.store;
        let policy = store.policy();
        let mut writes = Input::new(writes, &policy);
        let outcome = store
            .call("transaction", &policy, || {
                component.transact(writes.take(), metadata)
            })
            .await;
        if let Some((settings, flight)) = flight {
            // After a failure that was repeated nobody knows what the first attempt did.
            let known = |error: &Error| {
                if policy.has_retries() {
                    Kind::Internal
                } else {
                    error.kind
                }
            };
            outbox
                .end(settings, flight, outcome.as_ref().err().map(known))
                .await;
        }
        outcome.map_err(|error| catalogue::transaction_failed(text(&error)).caused_by(error))
    }
}

/// The three rows of one operation.
struct Rows {
    failed: &'static Code,
    mismatch: &'static Code,
    invalid: &'static Code,
}

static SAVE: Rows = Rows {
    failed: &catalogue::SAVE,
    mismatch: &catalogue::SAVE_ETAG_MISMATCH,
    invalid: &catalogue::SAVE_ETAG_INVALID,
};
static DELETE: Rows = Rows {
    failed: &catalogue::DELETE,
    mismatch: &catalogue::DELETE_ETAG_MISMATCH,
    invalid: &catalogue::DELETE_ETAG_INVALID,
};
static BULK_DELETE: Rows = Rows {
    failed: &catalogue::BULK_DELETE,
    mismatch: &catalogue::BULK_DELETE_ETAG_MISMATCH,
    invalid: &catalogue::BULK_DELETE_ETAG_INVALID,
};

impl Rows {
    fn code(&self, kind: Kind) -> &'static Code {
        match kind {
            Kind::EtagMismatch => self.mismatch,
            Kind::EtagInvalid => self.invalid,
            _ => self.failed,
        }
    }
}

const MISMATCH: &str = "possible etag mismatch. error from state store";
const INVALID: &str = "invalid etag value";

/// The component's sentence as clients see it.
/// COMPAT(components-contrib state/errors.go): errors about entity tags begin with fixed words.
fn text(error: &Error) -> Cow<'_, str> {
    match error.kind {
        Kind::EtagMismatch => prefixed(MISMATCH, &error.message),
        Kind::EtagInvalid => prefixed(INVALID, &error.message),
        _ => Cow::Borrowed(&error.message),
    }
}

fn prefixed<'t>(prefix: &str, message: &'t str) -> Cow<'t, str> {
    if message.starts_with(prefix) {
        Cow::Borrowed(message)
    } else {
        Cow::Owned(format!("{prefix}: {message}"))
    }
}

#[cfg(test)]
mod tests;
