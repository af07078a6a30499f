//! Signals of the operating system, as events.
//!
//! The first SIGTERM or SIGINT fires the shutdown trigger; a second one ends the process at once with exit code 1,
//! because somebody has lost patience. SIGHUP is counted and handed on: what a reload means is the caller's business.

#[cfg(test)]
mod tests;

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::drain::Trigger;
use crate::log::Log;

/// The signals of a long-running process, from the moment of [`Signals::listen`].
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// Something the operating system, or a person at the keyboard, asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// SIGTERM or SIGINT, by the name that the log shows.
    Stop(&'static str),
    /// SIGHUP.
    Reload,
}

impl Signals {
    /// Takes the signals over from their default action, which would end the process. Must run inside the runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next event. Cancel-safe; signals of one kind that arrive together count once.
    pub async fn next(&mut self) -> Event {
        // COMPAT(dapr/kit signals): these are the words Go prints for the signals.
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Event::Stop("terminated"),
            _ = self.interrupt.recv() => Event::Stop("interrupt"),
            _ = self.hangup.recv() => Event::Reload,
        }
    }

    /// Acts on signals until the process ends; a task for the composition root.
    ///
    /// `reloads` counts SIGHUPs; a receiver sees that the number has changed.
    pub async fn run(mut self, log: Log, shutdown: Trigger, reloads: watch::Sender<u64>) {
        let log = log.scope("dapr.signals");
        let mut stopping = false;
        loop {
            match self.next().await {
                Event::Reload => {
                    reloads.send_modify(|count| *count += 1);
                }
                Event::Stop(name) if stopping => {
                    log.fatal(format_args!(
                        "Received signal '{name}' during shutdown; exiting immediately"
                    ));
                    log.flush();
                    std::process::exit(1);
                }
                Event::Stop(name) => {
                    log.info(format_args!("Received signal '{name}'; beginning shutdown"));
                    stopping = true;
                    shutdown.fire();
                }
            }
        }
    }
}
