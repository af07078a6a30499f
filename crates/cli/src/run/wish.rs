//! What whoever started us wants: to go on, to stop, to stop now.

use anyhow::{Context, Result};
use rustix::process::Signal;
use std::convert::Infallible;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Run,
    /// In good order, handing this signal to the app.
    Stop(Signal),
    /// Somebody has lost patience.
    Kill,
}

/// Turns this process's signals into wishes: the first one stops, the second one kills.
///
/// # Errors
/// When signals cannot be listened to. It does not end otherwise.
pub(crate) async fn listen(wish: watch::Sender<Wish>) -> Result<Infallible> {
    let taken = |kind| signal(kind).context("cannot listen to signals");
    let mut interrupt = taken(SignalKind::interrupt())?;
    let mut terminate = taken(SignalKind::terminate())?;
    let mut hangup = taken(SignalKind::hangup())?;
    loop {
        let signal = tokio::select! {
            _ = interrupt.recv() => Signal::INT,
            _ = terminate.recv() => Signal::TERM,
            _ = hangup.recv() => Signal::HUP,
        };
        wish.send_modify(|wish| {
            *wish = match wish {
                Wish::Run => Wish::Stop(signal),
                Wish::Stop(_) | Wish::Kill => Wish::Kill,
            }
        });
    }
}

/// Returns when something other than going on is wanted.
pub(crate) async fn stopped(wish: &mut watch::Receiver<Wish>) -> Wish {
    wanted(wish, |wish| wish != Wish::Run).await
}

/// Returns when somebody has lost patience.
pub(crate) async fn killed(wish: &mut watch::Receiver<Wish>) {
    wanted(wish, |wish| wish == Wish::Kill).await;
}

async fn wanted(wish: &mut watch::Receiver<Wish>, is: impl Fn(Wish) -> bool) -> Wish {
    match wish.wait_for(|wish| is(*wish)).await {
        Ok(wish) => *wish,
        // Nobody listens to signals any more, so nothing will ever be wanted.
        Err(_) => std::future::pending().await,
    }
}
