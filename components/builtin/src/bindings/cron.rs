//! `bindings.cron`: an event each time a [schedule](outrigger_resources::cron) comes.
//!
//! Nothing is caught up with: while nobody reads (the app is down) or while the app holds too many events, times pass by
//! without an event. The wall clock decides, also when it is set meanwhile.
//!
//! COMPAT(components-contrib bindings/cron): the metadata of events. Unlike there, `readTimeUTC` has no reading of Go's
//! monotonic clock behind it.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use futures::StreamExt as _;
use jiff::Timestamp;
use jiff::tz::{self, TimeZone};
use outrigger_component::Component;
use outrigger_component::binding::{Event, InputBinding, Reading};
use outrigger_component::error::{Error, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::options::{Opt, REQUIRED, opt};
use outrigger_component::setup::Setup;
use outrigger_daemon::log::Log;
use outrigger_resources::cron::Schedule;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Events the app may hold at once; a schedule that comes faster than they are answered skips times.
const CONCURRENCY: usize = 16;
/// How long a change of the wall clock can go unnoticed.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What can be written under its `metadata`.
pub(crate) const OPTIONS: &[Opt] = &[opt("schedule", REQUIRED, "when, see below")];

#[derive(Debug, serde::Deserialize)]
pub struct Config {
    #[serde(default)]
    pub schedule: String,
}

pub struct Cron {
    name: String,
    schedule: Arc<Schedule>,
    clock: Clock,
    log: Log,
    closed: watch::Sender<bool>,
}

type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

impl Cron {
    /// # Errors
    /// `Invalid` without a schedule that can be read.
    pub async fn build(setup: Setup<Config>) -> Result<Self> {
        Self::with(setup, Arc::new(Timestamp::now))
    }

    fn with(setup: Setup<Config>, clock: Clock) -> Result<Self> {
        let text = &setup.config.schedule;
        if text.is_empty() {
            return Err(Error::invalid("schedule not set"));
        }
        let schedule = Schedule::parse(text, &TimeZone::system(), tz::db())
            .map_err(|error| Error::invalid(format!("invalid schedule format '{text}': {error}")))?;
        if schedule.next(clock()).is_none() {
            setup.log.warn(format_args!(
                "binding {}: the schedule '{text}' never comes",
                setup.name
            ));
        }
        Ok(Self {
            name: setup.name,
            schedule: Arc::new(schedule),
            clock,
            log: setup.log,
            closed: watch::Sender::new(false),
        })
    }
}

#[async_trait::async_trait]
impl Component for Cron {
    async fn close(&self) {
        self.closed.send_replace(true);
    }
}

#[async_trait::async_trait]
impl InputBinding for Cron {
    async fn read(&self) -> Result<Reading> {
        let ticking = Ticking {
            last: (self.clock)(),
            schedule: Arc::clone(&self.schedule),
            clock: Arc::clone(&self.clock),
        };
        self.log.debug(format_args!(
            "binding {}: next run at {:?}",
            self.name,
            self.schedule.next(ticking.last)
        ));
        let mut closed = self.closed.subscribe();
        let events = futures::stream::unfold(ticking, |mut ticking| async move {
            ticking.tick().await;
            Some((ticking.event(), ticking))
        });
        let over = async move {
            // Closed, or the component is gone: the end either way.
            let _closed = closed.wait_for(|closed| *closed).await;
        };
        Ok(Reading {
            events: events.take_until(over).boxed(),
            concurrency: CONCURRENCY,
        })
    }
}

struct Ticking {
    schedule: Arc<Schedule>,
    clock: Clock,
    /// The schedule's last time, or where the reading began.
    last: Timestamp,
}

impl Ticking {
    /// Returns at the schedule's next time from now on.
    async fn tick(&mut self) {
        let Some(due) = self.schedule.next(self.last.max((self.clock)())) else {
            return std::future::pending().await;
        };
        loop {
            let left = due.duration_since((self.clock)());
            match Duration::try_from(left) {
                Ok(left) if !left.is_zero() => tokio::time::sleep(left.min(LOOK_AGAIN)).await,
                // Due, or past it.
                Ok(_) | Err(_) => break,
            }
        }
        self.last = due;
    }

    fn event(&self) -> Event {
        let now = (self.clock)();
        // As Go prints a time: blanks instead of letters, no zeros at the end of the fraction.
        let text = now.to_string();
        let read = text.replace('T', " ").replace('Z', " +0000 UTC");
        let metadata: Metadata = [("timeZone", "Local"), ("readTimeUTC", read.as_str())]
            .into_iter()
            .collect();
        Event::new(Bytes::new(), metadata)
    }
}
