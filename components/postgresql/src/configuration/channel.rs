//! Listening to channels of the database, each over one connection for all who want to hear.
//!
//! A lost connection comes back by itself, with growing pauses; [`Event::Again`] then says that something may have been
//! missed. The last who hears takes the connection with him.

use crate::failure::failure;
use crate::pool::{Listener, Pool};
use outrigger_component::error::{Error, Result};
use outrigger_daemon::backoff::Backoff;
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::{OnExit, Spawner};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;
use tokio_postgres::AsyncMessage;

/// Notifications that a slow hearer may have waiting; with more, it looks at the table instead.
const WAITING: usize = 256;
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A silent connection is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub(super) enum Event {
    Payload(Arc<str>),
    /// Something may have been missed.
    Again,
}

pub(super) struct Channels {
    pool: Pool,
    tasks: Spawner,
    log: Log,
    /// `None`: closed.
    by_name: Mutex<Option<HashMap<String, Weak<Channel>>>>,
}

/// A channel for as long as somebody holds this.
pub(super) struct Channel {
    /// To subscribe with; nobody takes anything from it.
    events: broadcast::Receiver<Event>,
    state: watch::Receiver<State>,
    listening: Option<AbortHandle>,
}

#[derive(Debug)]
enum State {
    Connecting,
    Listening,
    Failed(Error),
}

impl Channels {
    pub(super) fn new(pool: Pool, tasks: Spawner, log: Log) -> Self {
        Self {
            pool,
            tasks,
            log,
            by_name: Mutex::new(Some(HashMap::new())),
        }
    }

    /// What is notified to the channel from now on.
    ///
    /// # Errors
    /// Those of the first attempt to listen.
    pub(super) async fn listen(&self, name: String) -> Result<(Arc<Channel>, broadcast::Receiver<Event>)> {
        let channel = self.channel(name)?;
        let events = channel.events.resubscribe();
        let mut state = channel.state.clone();
        let settled = state.wait_for(|state| !matches!(state, State::Connecting)).await;
        if let State::Failed(error) = &*settled.map_err(|_| Error::closed())? {
            return Err(error.copy());
        }
        Ok((Arc::clone(&channel), events))
    }

    /// Ends all watches.
    pub(super) fn close(&self) {
        let channels = self.by_name().take().unwrap_or_default();
        for channel in channels.values().filter_map(Weak::upgrade) {
            channel.end();
        }
    }

    fn channel(&self, name: String) -> Result<Arc<Channel>> {
        let mut by_name = self.by_name();
        let by_name = by_name.as_mut().ok_or_else(Error::closed)?;
        by_name.retain(|_, channel| channel.strong_count() > 0);
        if let Some(channel) = by_name.get(&name).and_then(Weak::upgrade) {
            return Ok(channel);
        }
        let (sender, events) = broadcast::channel(WAITING);
        let (said, state) = watch::channel(State::Connecting);
        let listening = Listening {
            pool: self.pool.clone(),
            name: name.clone(),
            events: sender,
            state: said,
            log: self.log.clone(),
        };
        let task = format!("configuration.postgresql channel {name}");
        let channel = Arc::new(Channel {
            events,
            state,
            listening: self.tasks.named(task, OnExit::Log, listening.run()),
        });
        by_name.insert(name, Arc::downgrade(&channel));
        Ok(channel)
    }

    fn by_name(&self) -> MutexGuard<'_, Option<HashMap<String, Weak<Channel>>>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channel {
    fn end(&self) {
        if let Some(listening) = &self.listening {
            listening.abort();
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.end();
    }
}

/// The task of one channel.
struct Listening {
    pool: Pool,
    name: String,
    events: broadcast::Sender<Event>,
    state: watch::Sender<State>,
    log: Log,
}

impl Listening {
    async fn run(self) {
        let mut backoff = Backoff::new(SHORTEST_PAUSE, LONGEST_PAUSE);
        let mut is_first = true;
        loop {
            match self.connect().await {
                Ok(listener) => {
                    backoff.reset();
                    self.state.send_replace(State::Listening);
                    if !is_first {
                        // Nobody may be there to hear.
                        drop(self.events.send(Event::Again));
                    }
                    is_first = false;
                    self.hear(listener).await;
                    self.log.warn(format_args!(
                        "configuration.postgresql: the connection that listens to channel {} is lost",
                        self.name
                    ));
                }
                Err(error) => {
                    self.log.warn(format_args!("configuration.postgresql: {error}"));
                    self.state.send_replace(State::Failed(error));
                }
            }
            // Sidecars that lost their server together do not come back together.
            backoff.wait().await;
        }
    }

    async fn connect(&self) -> Result<Listener> {
        let listener = self.pool.listener().await?;
        let what = format!("cannot listen to channel {}", self.name);
        let listen = format!("LISTEN \"{}\"", self.name);
        match tokio::time::timeout(self.pool.timeout(), listener.client.batch_execute(&listen)).await {
            Ok(Ok(())) => Ok(listener),
            Ok(Err(error)) => Err(failure(&what, error)),
            Err(_) => Err(crate::failure::too_late(&what)),
        }
    }

    /// Until the connection is lost.
    async fn hear(&self, mut listener: Listener) {
        loop {
            match tokio::time::timeout(SILENCE, listener.messages.recv()).await {
                Ok(Some(AsyncMessage::Notification(said))) => {
                    drop(self.events.send(Event::Payload(said.payload().into())));
                }
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(_) => {
                    let asked = listener.client.check_connection();
                    if !matches!(tokio::time::timeout(self.pool.timeout(), asked).await, Ok(Ok(()))) {
                        return;
                    }
                }
            }
        }
    }
}
