//! Deleting what has expired, for stores whose database does not do so itself.
//!
//! COMPAT(components-contrib common/component/sql/cleanup.go): the setting, and the texts of the log.

use crate::error::{Error, Result};
use crate::metadata;
use outrigger_daemon::log::Log;
use serde::de::value::{Error as Fault, StrDeserializer};
use std::fmt::Display;
use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(3600);

/// Metadata `cleanupInterval`, an hour unless it is set; `None`: never.
///
/// # Errors
/// `Invalid` for what is no duration.
pub fn interval(text: &str) -> Result<Option<Duration>> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(Some(INTERVAL));
    }
    if text.starts_with('-') {
        return Ok(None);
    }
    let interval = metadata::duration(StrDeserializer::<Fault>::new(text))
        .map_err(|error| Error::invalid(format!("metadata \"cleanupInterval\": {error}")))?;
    Ok(Some(interval).filter(|interval| !interval.is_zero()))
}

/// For ever. `clean` answers how many it has deleted, or `None` where somebody else did so lately.
pub async fn every<N: Display, F>(interval: Duration, log: Log, clean: impl Fn() -> F)
where
    F: Future<Output = Result<Option<N>>>,
{
    log.info(format_args!("Schedule expired data clean up every {interval:?}"));
    loop {
        tokio::time::sleep(interval).await;
        match clean().await {
            Ok(Some(removed)) => log.info(format_args!("Removed {removed} expired rows")),
            Ok(None) => log.debug("Last cleanup was performed too recently"),
            Err(error) => log.error(format_args!("Error removing expired data: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::interval;

    #[test]
    fn intervals() {
        for (text, expected) in [
            ("", Some(3600)),
            ("0", None),
            ("-1", None),
            ("-5m", None),
            ("90", Some(90)),
            ("10m", Some(600)),
        ] {
            let seconds = interval(text).unwrap().map(|interval| interval.as_secs());
            assert_eq!(seconds, expected, "{text:?}");
        }
        assert!(interval("often").unwrap_err().message.contains("cleanupInterval"));
    }
}
