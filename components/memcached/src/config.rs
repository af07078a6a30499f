//! What users write under `metadata`.
//!
//! COMPAT(components-contrib state/memcached): names, defaults and the message for missing hosts.

use outrigger_component::error::{Error, Result};
use outrigger_component::metadata;
use outrigger_component::options::{Opt, REQUIRED, opt};
use serde::Deserialize;
use serde::de::value::{Error as Fault, StrDeserializer};
use std::time::Duration;

const PORT: u16 = 11211;
const TIMEOUT: Duration = Duration::from_secs(1);
/// What the reference's client makes of a timeout of zero.
const SHORT_TIMEOUT: Duration = Duration::from_millis(500);
/// More connections than that to one host help nobody.
const MOST_CONNECTIONS: usize = 64;

pub(crate) const OPTIONS: &[Opt] = &[
    opt(
        "hosts",
        REQUIRED,
        "`host:port` or hosts, with commas between; all sidecars must write the same hosts in the same order",
    ),
    opt(
        "maxIdleConnections",
        "2",
        "connections to each host, which share its requests; at most 64",
    ),
    opt(
        "timeout",
        "1s",
        "of a request, with connecting; bare numbers are milliseconds",
    ),
];

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Config {
    hosts: String,
    max_idle_connections: Option<i64>,
    timeout: String,
}

impl Config {
    /// Hosts and ports in the order in which keys are dealt to them; at least one.
    ///
    /// # Errors
    /// `Invalid` if there are none, or one is malformed.
    pub(crate) fn hosts(&self) -> Result<Vec<String>> {
        let named = self
            .hosts
            .split(',')
            .map(str::trim)
            .filter(|host| !host.is_empty());
        let hosts = named.map(address).collect::<Result<Vec<_>>>()?;
        if hosts.is_empty() {
            return Err(Error::invalid("missing or empty hosts field from metadata"));
        }
        Ok(hosts)
    }

    /// At least 1.
    pub(crate) fn connections(&self) -> usize {
        let asked = usize::try_from(self.max_idle_connections.unwrap_or(2)).unwrap_or(1);
        asked.clamp(1, MOST_CONNECTIONS)
    }

    /// # Errors
    /// `Invalid` if it is no duration.
    pub(crate) fn timeout(&self) -> Result<Duration> {
        let text = self.timeout.trim();
        match text.parse::<i64>() {
            _ if text.is_empty() => Ok(TIMEOUT),
            Ok(0) => Ok(SHORT_TIMEOUT),
            Ok(number) => Ok(u64::try_from(number).map_or(TIMEOUT, Duration::from_millis)),
            Err(_) => metadata::duration(StrDeserializer::<Fault>::new(text))
                .map_err(|error| Error::invalid(format!("metadata timeout: {error}"))),
        }
    }
}

fn address(host: &str) -> Result<String> {
    let malformed = |why: &str| Err(Error::invalid(format!("metadata hosts: {host:?} {why}")));
    if host.contains('/') {
        return malformed("is a path, but memcached is reached by TCP only: write host:port");
    }
    match host.rsplit_once(':') {
        // A bare IPv6 address has colons and no port.
        Some((name, _)) if name.contains(':') && !name.ends_with(']') => Ok(format!("[{host}]:{PORT}")),
        Some((name, port)) if name.is_empty() || port.parse::<u16>().is_err() => {
            malformed("is not host:port")
        }
        Some(_) if host.ends_with(']') => Ok(format!("{host}:{PORT}")),
        Some(_) => Ok(host.to_owned()),
        None => Ok(format!("{host}:{PORT}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outrigger_component::metadata::Metadata;

    fn config(pairs: &[(&str, &str)]) -> Config {
        metadata::decode(&Metadata::from_iter(pairs.iter().copied())).unwrap()
    }

    #[test]
    fn hosts() {
        for (hosts, expected) in [
            ("h", Ok(&["h:11211"][..])),
            ("b:2, a:1,", Ok(&["b:2", "a:1"])),
            ("::1", Ok(&["[::1]:11211"])),
            ("[::1]:5", Ok(&["[::1]:5"])),
            ("", Err("missing or empty hosts field from metadata")),
            (" ,", Err("missing or empty hosts field from metadata")),
            ("h:x", Err("\"h:x\" is not host:port")),
            (":1", Err("\":1\" is not host:port")),
            ("/run/memcached.sock", Err("TCP only")),
        ] {
            match (config(&[("hosts", hosts)]).hosts(), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(error), Err(expected)) => assert!(error.message.contains(expected), "{}", error.message),
                (result, _) => panic!("{hosts}: {result:?}"),
            }
        }
    }

    #[test]
    fn numbers() {
        for (text, expected) in [
            ("", Some(1000)),
            ("-1", Some(1000)),
            ("0", Some(500)),
            ("250", Some(250)),
            ("5s", Some(5000)),
            ("soon", None),
        ] {
            let found = config(&[("timeout", text)]).timeout().ok();
            assert_eq!(found, expected.map(Duration::from_millis), "{text}");
        }
        for (text, expected) in [("", 2), ("0", 1), ("-3", 1), ("7", 7), ("1000", 64)] {
            let found = config(&[("maxIdleConnections", text)]).connections();
            assert_eq!(found, expected, "{text}");
        }
    }
}
