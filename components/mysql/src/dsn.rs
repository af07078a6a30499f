//! Connection strings: `user:password@tcp(host:port)/database?name=value&…`.
//!
//! COMPAT(go-sql-driver/mysql dsn.go): the form and the parameters' names. A parameter that is no setting of the client is a
//! variable of the session. What is of that client only is said to have no effect.

#[cfg(test)]
mod tests;

use mysql_async::{OptsBuilder, SslOpts};
use outrigger_component::error::{Error, Result};
use outrigger_component::metadata::Hidden;
use outrigger_component::query::decoded;
use outrigger_daemon::log::Log;
use outrigger_daemon::tls;
use std::path::PathBuf;

const PORT: u16 = 3306;
/// Settings of the reference's client that say what we do anyway, or that change only its own ways.
const WITHOUT_EFFECT: [&str; 19] = [
    "allowNativePasswords",
    "checkConnLiveness",
    "charset",
    "clientFoundRows",
    "collation",
    "columnsWithAlias",
    "compress",
    "connectionAttributes",
    "interpolateParams",
    "loc",
    "maxAllowedPacket",
    "multiStatements",
    "parseTime",
    "readTimeout",
    "rejectReadOnly",
    "serverPubKey",
    "timeTruncate",
    "timeout",
    "writeTimeout",
];

/// A connection string, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dsn {
    user: String,
    password: Hidden,
    address: Address,
    pub(crate) database: Option<String>,
    tls: Tls,
    cleartext: bool,
    /// `name = value`, as it stands after `SET`.
    variables: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Address {
    Tcp(String, u16),
    Unix(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tls {
    Off,
    /// The server must be who it says.
    On,
    /// Encrypted, to whomever.
    Unchecked,
    /// Encrypted to whomever if the server can.
    Preferred,
    /// The server's certificate must be of the authority in `pemPath`.
    Custom,
}

impl Dsn {
    /// # Errors
    /// `Invalid`. Never the text itself: it holds a password.
    pub(crate) fn parse(text: &str, log: &Log) -> Result<Self> {
        let illegal = |why: &str| Error::invalid(format!("illegal Data Source Name (DSN): {why}"));
        // The last one: a path of a unix socket has others.
        let (front, back) = text
            .rsplit_once('/')
            .ok_or_else(|| illegal("there must be a slash before the name of the database"))?;
        let (login, place) = front.rsplit_once('@').unwrap_or(("", front));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (database, query) = back.split_once('?').unwrap_or((back, ""));
        let mut dsn = Self {
            user: user.to_owned(),
            password: Hidden(password.to_owned()),
            address: address(place)
                .ok_or_else(|| illegal("the address must be written as tcp(host:port) or unix(/path)"))?,
            database: Some(database.to_owned()).filter(|database| !database.is_empty()),
            tls: Tls::Off,
            cleartext: false,
            variables: Vec::new(),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "tls" => {
                    dsn.tls = match value {
                        "" | "false" | "0" => Tls::Off,
                        "true" | "1" => Tls::On,
                        "skip-verify" => Tls::Unchecked,
                        "preferred" => Tls::Preferred,
                        "custom" => Tls::Custom,
                        other => {
                            return Err(illegal(&format!(
                                "tls must be true, false, skip-verify, preferred or custom, not {other:?}"
                            )));
                        }
                    }
                }
                "allowCleartextPasswords" => dsn.cleartext = value == "true",
                "allowFallbackToPlaintext" if value == "true" && dsn.tls == Tls::On => {
                    dsn.tls = Tls::Preferred
                }
                name if WITHOUT_EFFECT.contains(&name) || name.starts_with("allow") => {
                    log.debug(format_args!(
                        "mysql: {name} of the connection string has no effect"
                    ));
                }
                name => {
                    let is_name = name
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                    let value = decoded(value)
                        .ok_or_else(|| illegal(&format!("the value of {name} is not UTF-8")))?;
                    if !is_name || value.contains(';') {
                        return Err(illegal(&format!("{name:?} cannot be set")));
                    }
                    dsn.variables.push(format!("SET {name} = {value}"));
                }
            }
        }
        Ok(dsn)
    }

    /// `host:port`, for messages.
    pub(crate) fn address(&self) -> String {
        match &self.address {
            Address::Tcp(host, port) => format!("{host}:{port}"),
            Address::Unix(path) => path.clone(),
        }
    }

    pub(crate) fn tls(&self) -> Tls {
        self.tls
    }

    /// `tls` may be another than was asked for.
    ///
    /// # Errors
    /// `Invalid`: a custom authority without its file.
    pub(crate) fn options(&self, tls: Tls, pem: &str) -> Result<OptsBuilder> {
        let options = OptsBuilder::default()
            .prefer_socket(false)
            .tcp_nodelay(true)
            .user(Some(self.user.clone()))
            .pass(Some(self.password.0.clone()).filter(|password| !password.is_empty()))
            .db_name(self.database.clone())
            .enable_cleartext_plugin(self.cleartext)
            .init(self.variables.clone());
        let options = match &self.address {
            Address::Tcp(host, port) => options.ip_or_hostname(host.clone()).tcp_port(*port),
            Address::Unix(path) => options.socket(Some(path.clone())).prefer_socket(true),
        };
        let security = match tls {
            Tls::Off => None,
            // The library knows public authorities only, and takes no configuration of ours: with the first connection over TLS
            // it makes rustls' provider, the same as ours, that of the process.
            Tls::On => {
                let authorities = tls::authorities().into_iter();
                let authorities = authorities.map(|authority| authority.to_vec().into()).collect();
                Some(SslOpts::default().with_root_certs(authorities))
            }
            Tls::Unchecked | Tls::Preferred => {
                Some(SslOpts::default().with_danger_accept_invalid_certs(true))
            }
            Tls::Custom if pem.is_empty() => {
                return Err(Error::invalid(
                    "tls=custom of the connection string needs the metadata pemPath, a file with the authority's certificate",
                ));
            }
            Tls::Custom => Some(
                SslOpts::default()
                    .with_disable_built_in_roots(true)
                    .with_root_certs(vec![PathBuf::from(pem).into()]),
            ),
        };
        Ok(options.ssl_opts(security))
    }
}

/// Nothing at all is `tcp` on this machine.
fn address(place: &str) -> Option<Address> {
    let (protocol, address) = match place.split_once('(') {
        Some((protocol, rest)) => (protocol, rest.strip_suffix(')')?),
        None => (place, ""),
    };
    match protocol {
        "" | "tcp" | "tcp4" | "tcp6" => {
            let (host, port) = match address.rsplit_once(':') {
                Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
                _ => (address, PORT),
            };
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let host = if host.is_empty() { "127.0.0.1" } else { host };
            Some(Address::Tcp(host.to_owned(), port))
        }
        "unix" => {
            let path = if address.is_empty() {
                "/tmp/mysql.sock"
            } else {
                address
            };
            Some(Address::Unix(path.to_owned()))
        }
        _ => None,
    }
}
