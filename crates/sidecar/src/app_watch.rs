//! The app beside us, as the sidecar waits for it and watches its health.

use crate::config::{self, App, Health};
use outrigger_channel::app::AppChannel;
use outrigger_daemon::log::Log;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;

const DIAL_TIMEOUT: Duration = Duration::from_millis(500);
const DIAL_PAUSE: Duration = Duration::from_millis(100);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits until something listens on the app's port, for ever if need be. Cancel-safe.
pub(crate) async fn until_listening(app: &App, log: &Log) {
    log.info(format_args!(
        "application protocol: {}. waiting on port {}.  This will block until the app is listening on that port.",
        app.protocol.name(),
        app.port
    ));
    let address = config::address(&app.host, app.port);
    loop {
        match tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect(&address)).await {
            Ok(Ok(_stream)) => break,
            // Not there yet, or not yet accepting: both are what we wait for to end.
            Ok(Err(_)) | Err(_) => tokio::time::sleep(DIAL_PAUSE).await,
        }
    }
    log.info(format_args!("application discovered on port {}", app.port));
}

/// Asks the app what it hosts, once it is there. What it asks for and we do not have is said in the log.
///
/// COMPAT(pkg/runtime/runtime.go loadAppConfiguration): the route, and that a failure means nothing.
pub(crate) async fn ask(channel: &dyn AppChannel, skip: bool, log: &Log) {
    if skip {
        log.warn(
            "Skipping programmatic dapr configuration loading (see 'disable-init-endpoints' flag/annotation)",
        );
        return;
    }
    match tokio::time::timeout(ANSWER_TIMEOUT, channel.hosted()).await {
        Ok(Ok(types)) if types.is_empty() => {}
        Ok(Ok(types)) => log.warn(format_args!(
            "the app hosts actors of the types {types:?}, which will not be called: actors are not available in this version of Outrigger"
        )),
        Ok(Err(error)) => log.debug(format_args!("the app does not say what it hosts: {error}")),
        Err(_) => log.warn(format_args!(
            "the app did not answer GET /dapr/config within {ANSWER_TIMEOUT:?}"
        )),
    }
}

/// Probes the app's health until the receiver is gone, and tells changes. The app begins as unhealthy.
///
/// COMPAT(pkg/apphealth/health.go): unhealthy after `threshold` failures in a row, healthy after one success.
pub(crate) async fn probe(app: Arc<dyn AppChannel>, health: Health, log: Log, healthy: watch::Sender<bool>) {
    let mut failures = 0_u32;
    let mut ticks = tokio::time::interval(health.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = healthy.closed() => return,
            _ = ticks.tick() => {}
        }
        match app.healthy().await {
            Ok(()) => {
                failures = 0;
                if healthy.send_if_modified(|known| !std::mem::replace(known, true)) {
                    log.info("App entered healthy status");
                }
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                log.debug(format_args!("App health probe failed: {error}"));
                if failures >= health.threshold
                    && healthy.send_if_modified(|known| std::mem::replace(known, false))
                {
                    log.warn(format_args!("App entered un-healthy status: {error}"));
                }
            }
        }
    }
}
