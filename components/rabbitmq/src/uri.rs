//! `amqp://user:password@host:port/vhost`.
//!
//! COMPAT(rabbitmq/amqp091-go uri.go): what is left out is `guest`, `guest`, `localhost`, 5672 or 5671, `/`.

use outrigger_component::error::{Error, Result};
use percent_encoding::percent_decode_str;
use std::fmt;
use std::time::Duration;

const PORT: u16 = 5672;
const SECURE_PORT: u16 = 5671;

/// Where the broker is and who we are. `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Uri {
    pub secure: bool,
    /// Without the brackets of an IPv6 address.
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    pub vhost: String,
    pub heartbeat: Option<Duration>,
    /// For connecting.
    pub timeout: Option<Duration>,
}

impl Uri {
    /// # Errors
    /// `Invalid`; the text itself, which may hold a password, is not in it.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| Error::invalid("it must begin with amqp:// or amqps://"))?;
        let secure = scheme_is_secure(scheme)?;
        if text.contains(char::is_whitespace) {
            return Err(Error::invalid("it must not contain whitespace"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, at) = match authority.rsplit_once('@') {
            Some((login, at)) => (Some(login), at),
            None => (None, authority),
        };
        let mut uri = Self::of(secure, at)?;
        if let Some(login) = login {
            let (user, password) = match login.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (login, None),
            };
            uri.user = decoded(user, "user")?;
            if let Some(password) = password {
                uri.password = decoded(password, "password")?;
            }
        }
        if !path.is_empty() {
            uri.vhost = decoded(path, "virtual host")?;
        }
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            uri.option(name, value)?;
        }
        Ok(uri)
    }

    /// From `host` or `host:port`.
    pub(crate) fn of(secure: bool, at: &str) -> Result<Self> {
        let default = if secure { SECURE_PORT } else { PORT };
        // A bare IPv6 address has colons and no port.
        let split = match at.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => Some((host, port)),
            _ => None,
        };
        let (host, port) = match split {
            None | Some((_, "")) => (split.map_or(at, |(host, _)| host), default),
            Some((host, port)) => {
                let port = port.parse();
                (
                    host,
                    port.map_err(|_| Error::invalid("its port is not a number up to 65535"))?,
                )
            }
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Self {
            secure,
            host: if host.is_empty() { "localhost" } else { host }.to_owned(),
            port,
            user: "guest".to_owned(),
            password: "guest".to_owned(),
            vhost: "/".to_owned(),
            heartbeat: None,
            timeout: None,
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

    fn option(&mut self, name: &str, value: &str) -> Result<()> {
        let number = || {
            value
                .parse::<u32>()
                .map(u64::from)
                .map_err(|_| Error::invalid(format!("its option {name} is not a number")))
        };
        match name {
            "heartbeat" => self.heartbeat = Some(Duration::from_secs(number()?)),
            "connection_timeout" => self.timeout = Some(Duration::from_millis(number()?)),
            "channel_max" => {
                number()?;
            }
            "auth_mechanism" if value.eq_ignore_ascii_case("plain") => {}
            "auth_mechanism" => {
                return Err(Error::invalid(
                    "its option auth_mechanism can only be PLAIN; for EXTERNAL set saslExternal",
                ));
            }
            "cacertfile" | "certfile" | "keyfile" | "server_name_indication" => {
                return Err(Error::invalid(format!(
                    "its option {name} is not available; set caCert, clientCert and clientKey"
                )));
            }
            // COMPAT: options that nobody knows are ignored.
            _ => {}
        }
        Ok(())
    }
}

/// # Errors
/// `Invalid` if it is neither of the two.
pub(crate) fn scheme_is_secure(scheme: &str) -> Result<bool> {
    match scheme {
        "amqp" => Ok(false),
        "amqps" => Ok(true),
        _ => Err(Error::invalid(
            "AMQP scheme must be either 'amqp://' or 'amqps://'",
        )),
    }
}

fn decoded(text: &str, what: &str) -> Result<String> {
    percent_decode_str(text)
        .decode_utf8()
        .map(|text| text.into_owned())
        .map_err(|_| Error::invalid(format!("its {what} is not UTF-8")))
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uri")
            .field("secure", &self.secure)
            .field("address", &self.address())
            .field("user", &self.user)
            .field("vhost", &self.vhost)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Uri;
    use std::time::Duration;

    #[test]
    fn parts() {
        let plain = Uri::parse("amqp://").unwrap();
        for (text, expected) in [
            ("amqp://localhost:5672/", plain.clone()),
            (
                "amqps://h",
                Uri {
                    secure: true,
                    host: "h".to_owned(),
                    port: 5671,
                    ..plain.clone()
                },
            ),
            (
                "amqp://u%40x:p%2F:@h:1/%2fv?heartbeat=7&connection_timeout=1500&other=x",
                Uri {
                    host: "h".to_owned(),
                    port: 1,
                    user: "u@x".to_owned(),
                    password: "p/:".to_owned(),
                    vhost: "/v".to_owned(),
                    heartbeat: Some(Duration::from_secs(7)),
                    timeout: Some(Duration::from_millis(1500)),
                    ..plain.clone()
                },
            ),
            (
                "amqp://u@[::1]:9",
                Uri {
                    host: "::1".to_owned(),
                    port: 9,
                    user: "u".to_owned(),
                    ..plain.clone()
                },
            ),
        ] {
            assert!(Uri::parse(text).unwrap() == expected, "{text}");
        }
        assert_eq!(Uri::of(false, "::1").unwrap().address(), "[::1]:5672");
        assert_eq!(Uri::of(true, "h").unwrap().address(), "h:5671");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (text, expected) in [
            ("localhost", "must begin with amqp://"),
            ("http://u:hunter2@h", "AMQP scheme must be either"),
            ("amqp://u:hunter2@h:x", "port is not a number"),
            ("amqp://u:hunter2 @h", "whitespace"),
            ("amqp://u:%ffhunter2@h", "password is not UTF-8"),
            ("amqp://h?heartbeat=soon", "heartbeat is not a number"),
            ("amqps://h?cacertfile=/x", "set caCert"),
            ("amqp://h?auth_mechanism=EXTERNAL", "saslExternal"),
        ] {
            let error = Uri::parse(text).unwrap_err();
            assert!(error.message.contains(expected), "{text}: {}", error.message);
            assert!(!error.message.contains("hunter2"), "{}", error.message);
        }
        let uri = Uri::parse("amqp://u:hunter2@h").unwrap();
        assert!(!format!("{uri:?}").contains("hunter2"));
    }
}
