//! `tcp://user:password@host:port`, as the reference takes it.

use outrigger_component::error::{Error, Result};
use percent_encoding::percent_decode_str;
use std::fmt;

const PORT: u16 = 1883;
const SECURE_PORT: u16 = 8883;

/// Where the broker is and who we are. `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub secure: bool,
    /// Without the brackets of an IPv6 address.
    pub host: String,
    pub port: u16,
    pub user: Option<String>,
    pub password: Option<String>,
}

impl Url {
    /// # Errors
    /// `Invalid`; the text itself, which may hold a password, is not in it.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| Error::invalid("it must be written like tcp://host:1883"))?;
        // COMPAT(components-contrib pubsub/mqtt3): several words for the same.
        let secure = match scheme {
            "tcp" | "mqtt" => false,
            "ssl" | "tls" | "tcps" | "mqtts" => true,
            "ws" | "wss" => return Err(Error::unsupported("MQTT over WebSocket (ws, wss)")),
            _ => {
                return Err(Error::invalid(
                    "it must begin with tcp:// or mqtt://, or with ssl://, tls://, tcps:// or mqtts:// for TLS",
                ));
            }
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (login, at) = match authority.rsplit_once('@') {
            Some((login, at)) => (login, at),
            None => ("", authority),
        };
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let default = if secure { SECURE_PORT } else { PORT };
        let (host, port) = match at.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                let port = port.parse();
                (
                    host,
                    port.map_err(|_| Error::invalid("its port is not a number up to 65535"))?,
                )
            }
            _ => (at, default),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(Error::invalid("it has no host"));
        }
        Ok(Self {
            secure,
            host: host.to_owned(),
            port,
            user: decoded(user, "user")?,
            password: decoded(password, "password")?,
        })
    }

    /// `host:port`, for people and for dialling.
    pub(crate) fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// What is empty is not there.
fn decoded(text: &str, what: &str) -> Result<Option<String>> {
    if text.is_empty() {
        return Ok(None);
    }
    percent_decode_str(text)
        .decode_utf8()
        .map(|text| Some(text.into_owned()))
        .map_err(|_| Error::invalid(format!("its {what} is not UTF-8")))
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Url")
            .field("secure", &self.secure)
            .field("address", &self.address())
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Url;

    #[test]
    fn parts() {
        for (text, secure, address, user, password) in [
            ("tcp://h", false, "h:1883", None, None),
            ("mqtt://h:1/ignored", false, "h:1", None, None),
            ("ssl://u:p%40@h", true, "h:8883", Some("u"), Some("p@")),
            ("mqtts://u@[::1]:9", true, "[::1]:9", Some("u"), None),
            ("tls://[::1]", true, "[::1]:8883", None, None),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.secure, url.address().as_str()), (secure, address), "{text}");
            assert_eq!(
                (url.user.as_deref(), url.password.as_deref()),
                (user, password),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (text, expected) in [
            ("localhost:1883", "written like tcp://"),
            ("http://u:hunter2@h", "must begin with tcp://"),
            ("ws://h", "WebSocket"),
            ("tcp://u:hunter2@h:x", "port is not a number"),
            ("tcp://u:hunter2@", "no host"),
            ("tcp://u:%ffhunter2@h", "password is not UTF-8"),
        ] {
            let error = Url::parse(text).unwrap_err();
            assert!(error.message.contains(expected), "{text}: {}", error.message);
            assert!(!error.message.contains("hunter2"), "{}", error.message);
        }
        assert!(!format!("{:?}", Url::parse("tcp://u:hunter2@h").unwrap()).contains("hunter2"));
    }
}
