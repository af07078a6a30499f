//! The load generator: one task, one connection per worker.
//!
//! An open loop ([`Pace::Rate`]) has its schedule fixed beforehand, and a request's latency runs from the instant it was *due*,
//! whether or not a connection was free then: a stalled server cannot hide the requests it kept from being sent
//! (no coordinated omission). Requests that were still not answered when the grace ran out are recorded with their age.
//! A closed loop ([`Pace::Max`], [`Pace::Window`]) sends as fast as its connections allow, and measures from sending.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use anyhow::Result;
use futures::StreamExt;
use futures::future::{Either, join, select};
use futures::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use tokio::sync::Semaphore;

use crate::client::{Sender, connect, drain};
use crate::clock::{Ticker, nanos, now, until};
use crate::meter::Meter;
use crate::request::Source;
use crate::subscriber::Delivered;

/// How long after the end of a load its last answers may take.
const GRACE: Duration = Duration::from_secs(5);
/// Latencies are kept to so many digits …
pub(crate) const DIGITS: u8 = 3;
/// … up to this.
const LONGEST: u64 = 120_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// Open loop, this many a second.
    Rate(u32),
    /// Closed loop.
    Max,
    /// Closed loop, but never more than this many sent and not yet delivered to the subscriber.
    Window(u64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) pace: Pace,
    pub(crate) connections: usize,
    /// Runs first and is not recorded.
    pub(crate) warmup: Duration,
    pub(crate) measured: Duration,
}

/// What one load showed.
pub(crate) struct Outcome {
    /// Nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// Right answers within the measured time, a second.
    pub(crate) rate: f64,
    pub(crate) completed: u64,
    /// Right answers since the start, warm-up included.
    pub(crate) accepted: u64,
    /// First number that was not used: where the next load on the same sidecar goes on counting.
    pub(crate) next: u64,
    /// Requests that were refused as they may be, warm-up included: neither right answers nor errors, and not timed.
    pub(crate) refused: u64,
    /// By cause. An open loop's requests that were never sent are among them.
    pub(crate) errors: BTreeMap<String, u64>,
}

/// An empty histogram of nanoseconds, to so many digits.
pub(crate) fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, digits)
        .expect("the bounds are constants that hdrhistogram accepts")
}

/// Where a load goes, and when and with which number it begins.
pub(crate) struct Aim<'a> {
    pub(crate) target: SocketAddr,
    pub(crate) source: &'a Source,
    /// Number of the first request.
    pub(crate) first: u64,
    /// When the warm-up begins, in nanoseconds of the clock.
    pub(crate) start: u64,
    /// What the subscriber has seen; [`Pace::Window`] needs it.
    pub(crate) delivered: Option<&'a Delivered>,
}

/// Runs `load`. The meter counts exactly the measured time.
pub(crate) async fn run(load: Load, aim: Aim<'_>, meter: &mut Meter) -> Result<Outcome> {
    let run = Run::new(load, aim);
    {
        let workers = async {
            let mut workers: FuturesUnordered<_> = (0..load.connections).map(|_| run.worker()).collect();
            while workers.next().await.is_some() {}
        };
        let measured = async {
            until(run.begin).await?;
            meter.begin()?;
            while now() < run.end {
                until(run.end.min(now() + nanos(Duration::from_millis(250)))).await?;
                meter.sample()?;
            }
            meter.end()
        };
        let work = pin!(join(join(workers, run.pace()), measured));
        let grace = pin!(until(run.end + nanos(GRACE)));
        match select(work, grace).await {
            Either::Left(((((), paced), measured), _grace)) => {
                paced?;
                measured?;
            }
            Either::Right((grace, _unfinished)) => grace?,
        }
    }
    Ok(run.outcome())
}

struct Run<'a> {
    load: Load,
    aim: Aim<'a>,
    /// Nanoseconds of the clock: when recording begins, when the last request may be due.
    begin: u64,
    end: u64,
    /// How many requests were taken by a worker.
    taken: Cell<u64>,
    /// One permit for each request of an open loop that is due.
    due: Semaphore,
    latency: RefCell<Histogram<u64>>,
    completed: Cell<u64>,
    accepted: Cell<u64>,
    failed: Cell<u64>,
    refused: Cell<u64>,
    errors: RefCell<BTreeMap<String, u64>>,
    /// When the requests that now wait for their answer were due.
    waiting: RefCell<Vec<u64>>,
}

impl<'a> Run<'a> {
    fn new(load: Load, aim: Aim<'a>) -> Self {
        let begin = aim.start + nanos(load.warmup);
        Self {
            load,
            aim,
            begin,
            end: begin + nanos(load.measured),
            taken: Cell::new(0),
            due: Semaphore::new(0),
            latency: RefCell::new(histogram(DIGITS)),
            completed: Cell::new(0),
            accepted: Cell::new(0),
            failed: Cell::new(0),
            refused: Cell::new(0),
            errors: RefCell::default(),
            waiting: RefCell::default(),
        }
    }

    /// Time between two requests of an open loop.
    fn step(&self) -> Option<u64> {
        match self.load.pace {
            Pace::Rate(rate) => Some(nanos(Duration::from_secs(1)) / u64::from(rate.max(1))),
            Pace::Max | Pace::Window(_) => None,
        }
    }

    /// Length of an open loop's schedule.
    fn scheduled(&self, step: u64) -> u64 {
        (self.end - self.aim.start) / step
    }

    /// Releases the requests of an open loop as they fall due.
    async fn pace(&self) -> io::Result<()> {
        let Some(step) = self.step() else { return Ok(()) };
        let ticker = Ticker::starting(self.aim.start, Duration::from_nanos(step))?;
        let scheduled = self.scheduled(step);
        let mut released = 0;
        while released < scheduled {
            ticker.tick().await?;
            let due = (now().saturating_sub(self.aim.start) / step + 1).min(scheduled);
            self.due
                .add_permits(usize::try_from(due - released).unwrap_or_default());
            released = due;
        }
        self.due.add_permits(self.load.connections); // each idle worker wakes once more and finds nothing left
        Ok(())
    }

    /// The next request's number within the run and the instant it is due; `None` when the load is over.
    async fn take(&self) -> Option<(u64, u64)> {
        let due = match (self.step(), self.load.pace) {
            (Some(step), _) => {
                self.due.acquire().await.expect("never closed").forget();
                if self.taken.get() >= self.scheduled(step) {
                    return None;
                }
                self.aim.start + self.taken.get() * step
            }
            (None, pace) => {
                if self.taken.get() == 0 {
                    until(self.aim.start).await.ok()?;
                }
                if let (Pace::Window(most), Some(delivered)) = (pace, self.aim.delivered) {
                    while self.taken.get() - self.failed.get() >= delivered.distinct() + most
                        && now() < self.end
                    {
                        delivered.wait(Duration::from_millis(5)).await;
                    }
                }
                let now = now();
                if now >= self.end {
                    return None;
                }
                now
            }
        };
        let number = self.taken.get();
        self.taken.set(number + 1);
        Some((number, due))
    }

    async fn worker(&self) {
        while now() < self.end {
            let (mut sender, driver) = match connect(self.aim.target, self.aim.source.protocol()).await {
                Ok(connection) => connection,
                Err(error) => {
                    self.error(format!("{error:#}"));
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            };
            let session = pin!(self.session(&mut sender));
            let over = match select(session, driver).await {
                Either::Left((over, _driver)) => over,
                Either::Right((_closed, session)) => session.await,
            };
            if over {
                return;
            }
        }
    }

    /// Uses one connection until the load is over (`true`) or the connection fails (`false`).
    async fn session(&self, sender: &mut Sender) -> bool {
        while let Some((number, due)) = self.take().await {
            self.waiting.borrow_mut().push(due);
            let answer = async {
                let response = sender
                    .send(self.aim.source.request(self.aim.first + number, due))
                    .await?;
                let status = response.status();
                let is_refusal = self.aim.source.is_refusal(status, response.headers());
                hyper::Result::Ok((status, is_refusal, drain(response).await?))
            };
            let answer = answer.await;
            let done = now();
            let mut waiting = self.waiting.borrow_mut();
            if let Some(index) = waiting.iter().position(|other| *other == due) {
                waiting.swap_remove(index);
            }
            drop(waiting);
            match answer {
                Ok((status, _, length)) if self.aim.source.accepts(status, length) => self.record(due, done),
                Ok((_, true, _)) => self.refused.set(self.refused.get() + 1),
                Ok((status, false, length)) => {
                    self.failed.set(self.failed.get() + 1);
                    self.error(format!("status {} with {length} bytes", status.as_u16()));
                }
                Err(error) => {
                    self.failed.set(self.failed.get() + 1);
                    self.error(format!("connection: {error}"));
                    return false;
                }
            }
        }
        true
    }

    fn record(&self, due: u64, done: u64) {
        self.accepted.set(self.accepted.get() + 1);
        if (self.begin..self.end).contains(&done) {
            self.completed.set(self.completed.get() + 1);
        }
        if (self.begin..self.end).contains(&due) {
            self.latency
                .borrow_mut()
                .saturating_record(done.saturating_sub(due).max(1));
        }
    }

    fn error(&self, cause: String) {
        *self.errors.borrow_mut().entry(cause).or_default() += 1;
    }

    /// Closes the books; what is still open counts with the age it has reached.
    fn outcome(self) -> Outcome {
        let gone = now();
        let unsent = self
            .step()
            .map_or(0..0, |step| self.taken.get()..self.scheduled(step));
        let mut open = self.waiting.take();
        if let Some(step) = self.step() {
            let unsent_due = unsent.clone().map(|number| self.aim.start + number * step);
            open.extend(unsent_due);
        }
        let mut latency = self.latency.into_inner();
        let mut errors = self.errors.into_inner();
        for due in open {
            *errors.entry("unanswered at the end".to_owned()).or_default() += 1;
            if due >= self.begin {
                latency.saturating_record(gone.saturating_sub(due));
            }
        }
        Outcome {
            latency,
            rate: self.completed.get() as f64 / self.load.measured.as_secs_f64(),
            completed: self.completed.get(),
            accepted: self.accepted.get(),
            next: self.aim.first + self.taken.get(),
            refused: self.refused.get(),
            errors,
        }
    }
}
