//! Monotonic nanoseconds that two processes of this machine can compare, and a ticker finer than tokio's millisecond.

use std::fs::File;
use std::io;
use std::time::Duration;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;

const SECOND: u64 = 1_000_000_000;

/// `CLOCK_MONOTONIC`, in nanoseconds: the same for every process since boot.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or_default() * SECOND + u64::try_from(time.tv_nsec).unwrap_or_default()
}

/// A duration as nanoseconds; saturates after 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Fires at `start` and then every `period`, by the kernel's high-resolution timer.
pub(crate) struct Ticker {
    // A timer's descriptor is read like a pipe's, and tokio offers no other safe way to wait for a foreign descriptor.
    timer: Receiver,
}

impl Ticker {
    /// `start` is in nanoseconds of [`now`]; `period` must not be zero.
    pub(crate) fn starting(start: u64, period: Duration) -> io::Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        let times = Itimerspec {
            it_interval: timespec(nanos(period)),
            it_value: timespec(start.max(1)),
        };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &times)?;
        Ok(Self {
            timer: Receiver::from_file_unchecked(File::from(timer))?,
        })
    }

    pub(crate) fn every(period: Duration) -> io::Result<Self> {
        Self::starting(now() + nanos(period), period)
    }

    /// Waits for the next expiry; several that passed unseen count as one.
    pub(crate) async fn tick(&self) -> io::Result<()> {
        loop {
            self.timer.readable().await?;
            match self.timer.try_read(&mut [0; 8]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read.map(drop),
            }
        }
    }
}

/// Waits until `instant`, in nanoseconds of [`now`].
pub(crate) async fn until(instant: u64) -> io::Result<()> {
    if instant > now() {
        Ticker::starting(instant, Duration::from_secs(3600))?
            .tick()
            .await?;
    }
    Ok(())
}

fn timespec(nanos: u64) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(nanos / SECOND).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(nanos % SECOND).unwrap_or_default(),
    }
}
