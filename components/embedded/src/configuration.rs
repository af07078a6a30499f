//! `configuration.outrigger`: values in the hub, written with `outrigger configuration set` or by a state store of the same
//! space.
//!
//! Metadata: `space` (default: the component's name). A value's version is its entity tag.
//!
//! The hub says that a space may have changed, once for all watches of the component; what did is found by comparing
//! versions. So a lost connection loses no change: the comparison is made when the hub is back. Values with a time to live
//! are looked at again when it ends.

use crate::link::Backoff;
use crate::space::{Config, Space};
use futures::StreamExt as _;
use futures::stream;
use outrigger_component::Component;
use outrigger_component::configuration::{Changes, ConfigurationStore, Get, Item, Items};
use outrigger_component::error::Result;
use outrigger_component::setup::Setup;
use outrigger_daemon::drain;
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::{OnExit, Tasks};
use outrigger_proto::hub::v1;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::time::sleep;
use tonic::{Status, Streaming};

/// Keys asked for in one request.
const PAGE: usize = 500;
/// Ends of lives are looked at no sooner than this after they are due.
const GRACE: Duration = Duration::from_millis(5);

/// After a read that failed, until the next one.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) struct Store {
    shared: Arc<Shared>,
    /// Rung when the space may have changed.
    bell: watch::Receiver<()>,
    /// Owns the task that listens to the hub; its end ends the watches.
    _tasks: Tasks,
}

struct Shared {
    space: Space,
    log: Log,
}

/// The values at one moment.
#[derive(Default)]
struct Seen {
    items: Items,
    /// When the first of them ends, milliseconds since 1970; 0 is never.
    ends: u64,
}

/// A watch under way.
struct Session {
    shared: Arc<Shared>,
    keys: Vec<String>,
    seen: Seen,
    bell: watch::Receiver<()>,
}

impl Store {
    pub(crate) async fn connect(setup: Setup<Config>, socket: Option<PathBuf>) -> Result<Self> {
        let log = setup.log.clone();
        let space = Space::connect(setup, socket, "configuration.outrigger").await?;
        let shared = Arc::new(Shared { space, log });
        let changes = shared.space.link.call(true, || shared.changes()).await?;
        let (ring, bell) = watch::channel(());
        let tasks = Tasks::new(&shared.log, drain::channel().0);
        let listening = listen(Arc::clone(&shared), changes, ring);
        tasks.spawn("configuration changes", OnExit::Log, listening);
        Ok(Self {
            shared,
            bell,
            _tasks: tasks,
        })
    }
}

impl Shared {
    async fn read(&self, keys: &[String]) -> Result<Seen> {
        let all;
        let keys = if keys.is_empty() {
            all = self.keys().await?;
            &all
        } else {
            keys
        };
        let mut seen = Seen::default();
        for page in keys.chunks(PAGE) {
            let found = self.space.get(page.to_vec()).await?;
            for (key, found) in page.iter().zip(found) {
                let Some(item) = found else { continue };
                if item.expires_ms > 0 && (seen.ends == 0 || item.expires_ms < seen.ends) {
                    seen.ends = item.expires_ms;
                }
                seen.items.insert(key.clone(), shown(&item));
            }
        }
        Ok(seen)
    }

    async fn keys(&self) -> Result<Vec<String>> {
        let mut keys: Vec<String> = Vec::new();
        loop {
            let after = keys.last().map_or("", String::as_str);
            let page = self.space.keys("", after, 0).await?;
            let more = page.more && !page.keys.is_empty();
            keys.extend(page.keys);
            if !more {
                return Ok(keys);
            }
        }
    }

    async fn changes(&self) -> Result<Streaming<v1::ChangesResponse>, Status> {
        let request = v1::ChangesRequest {
            space: self.space.name.clone(),
        };
        let mut changes = self.space.link.state().changes(request).await?.into_inner();
        // The first one says that from here on nothing is missed.
        changes.message().await?;
        Ok(changes)
    }
}

#[async_trait::async_trait]
impl Component for Store {
    async fn ping(&self) -> Result<()> {
        self.shared.space.link.ping().await
    }
}

#[async_trait::async_trait]
impl ConfigurationStore for Store {
    async fn get(&self, get: &Get) -> Result<Items> {
        Ok(self.shared.read(&get.keys).await?.items)
    }

    async fn watch(&self, get: &Get) -> Result<Changes> {
        // What rings from here on is newer than what is read below, or the same.
        let mut bell = self.bell.clone();
        bell.mark_unchanged();
        let session = Session {
            seen: self.shared.read(&get.keys).await?,
            shared: Arc::clone(&self.shared),
            keys: get.keys.clone(),
            bell,
        };
        Ok(stream::unfold(session, |mut session| async {
            let items = session.next().await?;
            Some((items, session))
        })
        .boxed())
    }
}

impl Session {
    /// `None` when the component is gone.
    async fn next(&mut self) -> Option<Items> {
        loop {
            self.wait().await?;
            let now = loop {
                match self.shared.read(&self.keys).await {
                    Ok(now) => break now,
                    Err(error) => {
                        let log = &self.shared.log;
                        log.debug(format_args!("configuration not read: {error}"));
                        sleep(PAUSE).await;
                    }
                }
            };
            let before = std::mem::replace(&mut self.seen, now);
            let changed = difference(&before.items, &self.seen.items);
            if !changed.is_empty() {
                return Some(changed);
            }
        }
    }

    /// Until something may have changed.
    async fn wait(&mut self) -> Option<()> {
        match remaining(self.seen.ends) {
            None => self.bell.changed().await.ok(),
            Some(due) => tokio::select! {
                rung = self.bell.changed() => rung.ok(),
                () = sleep(due + GRACE) => Some(()),
            },
        }
    }
}

/// Passes on what the hub says, and rings when it is back after a while: anything may have changed.
async fn listen(shared: Arc<Shared>, mut changes: Streaming<v1::ChangesResponse>, ring: watch::Sender<()>) {
    loop {
        while let Ok(Some(_)) = changes.message().await {
            ring.send_replace(());
        }
        let mut backoff = Backoff::default();
        changes = loop {
            sleep(backoff.next()).await;
            if let Ok(changes) = shared.changes().await {
                break changes;
            }
        };
        ring.send_replace(());
    }
}

fn remaining(ends: u64) -> Option<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (ends > 0).then(|| Duration::from_millis(ends).saturating_sub(now))
}

/// New and changed values, and an empty one for each that is gone.
fn difference(before: &Items, now: &Items) -> Items {
    let changed = now
        .iter()
        .filter(|(key, item)| before.get(*key) != Some(item))
        .map(|(key, item)| (key.clone(), item.clone()));
    let gone = before
        .keys()
        .filter(|key| !now.contains_key(*key))
        .map(|key| (key.clone(), Item::default()));
    changed.chain(gone).collect()
}

/// What is no text is shown with replacement characters: configuration is text.
fn shown(item: &v1::Item) -> Item {
    Item {
        value: String::from_utf8_lossy(&item.value).into_owned(),
        version: item.etag.clone(),
        ..Item::default()
    }
}

#[cfg(test)]
mod tests {
    use super::difference;
    use outrigger_component::configuration::{Item, Items};

    fn items(of: &[(&str, &str, &str)]) -> Items {
        of.iter()
            .map(|(key, value, version)| {
                let item = Item {
                    value: (*value).to_owned(),
                    version: (*version).to_owned(),
                    ..Item::default()
                };
                ((*key).to_owned(), item)
            })
            .collect()
    }

    #[test]
    fn differences() {
        let before = items(&[("a", "1", "1"), ("b", "1", "2"), ("c", "1", "3")]);
        let now = items(&[("a", "1", "1"), ("b", "1", "4"), ("d", "1", "5")]);
        let expected = items(&[("b", "1", "4"), ("c", "", ""), ("d", "1", "5")]);
        assert_eq!(difference(&before, &now), expected);
        assert!(difference(&now, &now).is_empty());
    }
}
