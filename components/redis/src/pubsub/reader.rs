//! One subscription: reads new messages when it is polled, and looks for pending ones in between.
//!
//! Not polling pauses it. Dropping it gives back what it has read and not handed out.

use super::acknowledge::{Held, Ledger, is_gone};
use super::entry::{self, Entry, Pending};
use super::{Group, Redelivery};
use crate::client::{Dedicated, Repeat, backoff, unexpected};
use crate::failure::failure;
use outrigger_component::error::Result;
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::{Delivery, Incoming, Settle};
use outrigger_daemon::backoff::Backoff;
use redis::{Cmd, RedisError, Value};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long the server may hold back its answer while there is nothing to read.
const BLOCK: Duration = Duration::from_secs(5);

pub(super) struct Reader {
    group: Arc<Group>,
    ledger: Arc<Ledger>,
    topic: String,
    held: Arc<Held>,
    read: VecDeque<Entry>,
    /// For blocking reads.
    connection: Option<Dedicated>,
    next_look: Instant,
    backoff: Backoff,
}

impl Reader {
    pub(super) fn new(group: &Arc<Group>, ledger: &Arc<Ledger>, topic: &str) -> Self {
        Self {
            group: Arc::clone(group),
            ledger: Arc::clone(ledger),
            topic: topic.to_owned(),
            held: Arc::new(Held::new(topic, ledger)),
            read: VecDeque::new(),
            connection: None,
            next_look: Instant::now(),
            backoff: backoff(),
        }
    }

    /// The next message; waits for one. `None` when the component is closed. Failures are logged and survived.
    pub(super) async fn next(&mut self) -> Option<Delivery> {
        loop {
            if self.ledger.is_closed() {
                return None;
            }
            if let Some(entry) = self.read.pop_front() {
                return Some(self.deliver(entry));
            }
            self.ledger.room().await;
            match self.fill().await {
                Ok(()) => self.backoff.reset(),
                Err(error) => {
                    self.connection = None;
                    // Said once, not with each attempt.
                    if self.backoff.is_fresh() {
                        self.group.log.error(format_args!(
                            "redis streams: error reading from stream {}: {error}",
                            self.topic
                        ));
                    }
                    self.backoff.wait().await;
                }
            }
        }
    }

    fn deliver(&self, entry: Entry) -> Delivery {
        let metadata = entry.metadata().unwrap_or_else(|error| {
            let Entry { id, .. } = &entry;
            self.group.log.warn(format_args!(
                "redis streams: could not extract metadata of message {id}: {error}"
            ));
            Metadata::new()
        });
        let message = Incoming {
            topic: self.topic.clone(),
            data: entry.data,
            content_type: None,
            metadata,
        };
        let token = self.held.hand_out(entry.id);
        Delivery::new(message, Arc::clone(&self.held) as Arc<dyn Settle>, token)
    }

    /// Reads what is there. May come back with nothing.
    async fn fill(&mut self) -> Result<()> {
        let mut block = BLOCK;
        if let Some(redelivery) = self.group.redelivery {
            if Instant::now() >= self.next_look {
                self.look(redelivery).await?;
                self.next_look = Instant::now() + redelivery.every;
            }
            block = block.min(self.next_look.saturating_duration_since(Instant::now()));
        }
        if self.read.is_empty() {
            self.read_new(block).await?;
        }
        Ok(())
    }

    async fn read_new(&mut self, block: Duration) -> Result<()> {
        let failed = |error| failure("XREADGROUP", error);
        if self.connection.is_none() {
            self.connection = Some(self.group.client.dedicated(&self.topic).await.map_err(failed)?);
        }
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let name = &self.group.name;
        let mut cmd = redis::cmd("XREADGROUP");
        cmd.arg("GROUP")
            .arg(name)
            .arg(name)
            .arg("COUNT")
            .arg(self.group.depth);
        // Zero would be for ever.
        cmd.arg("BLOCK")
            .arg(block.as_millis().max(1))
            .arg("STREAMS")
            .arg(&self.topic)
            .arg(">");
        let patience = block + self.group.client.answer_timeout();
        match connection.request(patience, &cmd).await {
            Ok(answer) => {
                self.read
                    .extend(entry::read(answer).ok_or_else(|| unexpected("XREADGROUP"))?);
                Ok(())
            }
            Err(error) if is_gone(&error) => self.recreate().await,
            Err(error) => Err(failed(error)),
        }
    }

    async fn recreate(&self) -> Result<()> {
        self.group.log.warn(format_args!(
            "redis streams: consumer group {} does not exist for stream {}. This could mean the server experienced data \
             loss, or the group/stream was deleted; it is made again",
            self.group.name, self.topic
        ));
        self.group.create(&self.topic).await
    }

    /// Claims what has been pending for too long, up to one read's worth.
    async fn look(&mut self, redelivery: Redelivery) -> Result<()> {
        let mut from = "-".to_owned();
        while self.read.len() < self.group.depth {
            let Some(page) = self.pending(&from).await? else {
                return self.recreate().await;
            };
            let ours = self.held.ids_now();
            let mine = |id: &str| ours.contains(id) || self.ledger.holds(&self.topic, id);
            let late: Vec<String> = page
                .iter()
                .filter(|message| message.idle >= redelivery.after && !mine(&message.id))
                .map(|message| message.id.clone())
                .collect();
            if !late.is_empty() {
                self.claim(&late, redelivery.after).await?;
            }
            match page.last().and_then(|last| entry::after(&last.id)) {
                Some(next) if page.len() == self.group.depth => from = next,
                _ => break,
            }
        }
        Ok(())
    }

    /// A page of pending messages. `None` if there is no group.
    async fn pending(&self, from: &str) -> Result<Option<Vec<Pending>>> {
        let mut cmd = redis::cmd("XPENDING");
        cmd.arg(&self.topic)
            .arg(&self.group.name)
            .arg(from)
            .arg("+")
            .arg(self.group.depth);
        let answer: Result<Value, RedisError> = self.group.client.query(&cmd, Repeat::Yes).await;
        match answer {
            Ok(answer) => entry::pending(answer)
                .map(Some)
                .ok_or_else(|| unexpected("XPENDING")),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(failure("XPENDING", error)),
        }
    }

    async fn claim(&mut self, ids: &[String], idle: Duration) -> Result<()> {
        let name = &self.group.name;
        let mut cmd = Cmd::with_capacity(ids.len() + 5, ids.len() * 20 + 128);
        cmd.arg("XCLAIM")
            .arg(&self.topic)
            .arg(name)
            .arg(name)
            .arg(idle.as_millis())
            .arg(ids);
        // Not repeated: a claim that was answered to nobody is pending anew, and found later.
        let answer = self
            .group
            .client
            .query(&cmd, Repeat::IfUnsent)
            .await
            .map_err(|error| failure("XCLAIM", error))?;
        let claimed = entry::claimed(answer).ok_or_else(|| unexpected("XCLAIM"))?;
        let vanished = claimed.iter().any(Option::is_none);
        self.read.extend(claimed.into_iter().flatten());
        if vanished {
            self.forget_vanished(ids).await?;
        }
        Ok(())
    }

    /// Old servers keep messages pending that were trimmed from the stream: those are acknowledged.
    async fn forget_vanished(&self, ids: &[String]) -> Result<()> {
        for id in ids
            .iter()
            .filter(|id| !self.read.iter().any(|entry| entry.id == **id))
        {
            let mut cmd = redis::cmd("XRANGE");
            cmd.arg(&self.topic).arg(id).arg(id);
            let found: Vec<Value> = self
                .group
                .client
                .query(&cmd, Repeat::Yes)
                .await
                .map_err(|error| failure("XRANGE", error))?;
            if found.is_empty() {
                let mut cmd = redis::cmd("XACK");
                cmd.arg(&self.topic).arg(&self.group.name).arg(id);
                let gone: Result<i64, RedisError> = self.group.client.query(&cmd, Repeat::Yes).await;
                gone.map_err(|error| failure("XACK", error))?;
            }
        }
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.held.give_back(self.read.drain(..));
    }
}
