//! What users write under `metadata`.
//!
//! COMPAT(components-contrib state/etcd): names, defaults, and that TLS is all or nothing. `username` and `password` are ours.

use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::{self, Hidden};
use outrigger_component::options::{NONE, Opt, REQUIRED, opt};
use outrigger_daemon::tls;
use serde::Deserialize;

pub(crate) const OPTIONS: &[Opt] = &[
    opt(
        "endpoints",
        REQUIRED,
        "members of the cluster as `host:port`, with commas between; `http://` and `https://` may stand in front",
    ),
    opt(
        "keyPrefixPath",
        NONE,
        "what stands before the `/` in front of every key",
    ),
    opt(
        "maxTxnOps",
        "128",
        "writes in one transaction; what the servers' `--max-txn-ops` says",
    ),
    opt("tlsEnable", "false", "TLS; needs `ca`, `cert` and `key`"),
    opt("ca", NONE, "certificates of the authorities of the servers, PEM"),
    opt("cert", NONE, "client certificate, PEM"),
    opt("key", NONE, "key of the client certificate, PEM"),
    opt(
        "username",
        NONE,
        "user, where the cluster has authentication enabled; not in the reference",
    ),
    opt("password", NONE, "password of the user; not in the reference"),
];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Config {
    endpoints: String,
    pub key_prefix_path: String,
    pub max_txn_ops: usize,
    tls_enable: String,
    ca: String,
    cert: String,
    key: Hidden,
    pub username: String,
    pub password: Hidden,
}

/// A member of the cluster.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `host:port`.
    pub address: String,
    pub secure: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoints: String::new(),
            key_prefix_path: String::new(),
            max_txn_ops: 128,
            tls_enable: String::new(),
            ca: String::new(),
            cert: String::new(),
            key: Hidden::default(),
            username: String::new(),
            password: Hidden::default(),
        }
    }
}

impl Config {
    /// # Errors
    /// `Invalid` if there are none, or one is no address.
    pub(crate) fn endpoints(&self) -> Result<Vec<Endpoint>> {
        if self.endpoints.split(',').next().is_none_or(str::is_empty) {
            return Err(Error::invalid("initializing etcd client: endpoints required"));
        }
        let tls = self.wants_tls();
        self.endpoints
            .split(',')
            .map(|text| Endpoint::parse(text.trim(), tls))
            .collect()
    }

    /// Whom to trust and who we are, should any endpoint speak TLS.
    ///
    /// # Errors
    /// `Invalid` for half a configuration, or PEM that is none.
    pub(crate) fn tls(&self, secure: bool) -> Result<tls::Config> {
        let pem = |field, text| tls::Pem { field, text };
        let settings = if self.wants_tls() {
            if self.ca.is_empty() || self.cert.is_empty() || self.key.0.is_empty() {
                return Err(Error::invalid(
                    "initializing etcd client: tls authentication information is incomplete: tlsEnable needs ca, cert \
                     and key",
                ));
            }
            tls::Client {
                trust: tls::Trust::Only(pem("ca", &self.ca)),
                identity: Some(tls::Identity {
                    certificate: pem("cert", &self.cert),
                    key: pem("key", &self.key.0),
                }),
                protocols: &[],
            }
        } else {
            tls::Client {
                trust: if secure {
                    tls::Trust::System
                } else {
                    tls::Trust::Nobody
                },
                ..tls::Client::default()
            }
        };
        tls::client(&settings).map_err(|error| {
            Error::caused(
                Kind::Invalid,
                "initializing etcd client: tls authentication error",
                error,
            )
        })
    }

    fn wants_tls(&self) -> bool {
        metadata::truthy(&self.tls_enable)
    }
}

impl Endpoint {
    fn parse(text: &str, tls: bool) -> Result<Self> {
        let (secure, address) = match text.split_once("://") {
            None => (tls, text),
            Some(("http", address)) => (false, address),
            Some(("https", address)) => (true, address),
            Some((scheme, _)) => {
                return Err(Error::invalid(format!(
                    "metadata endpoints: {scheme}:// is not available: write host:port, http:// or https://"
                )));
            }
        };
        let address = address.trim_end_matches('/');
        let port = address.rsplit_once(':').and_then(|(host, port)| {
            let bare = !host.contains(':') || host.ends_with(']');
            (bare && !host.is_empty())
                .then(|| port.parse::<u16>().ok())
                .flatten()
        });
        // A user or a path would be a mistake, and a user might bring a password into messages.
        if port.is_none() || address.contains(['@', '/', ' ']) {
            return Err(Error::invalid(
                "metadata endpoints: each must be host:port, such as localhost:2379",
            ));
        }
        Ok(Self {
            address: address.to_owned(),
            secure,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Hidden};

    #[test]
    fn endpoints() {
        let found = |text: &str, tls: &str| {
            let config = Config {
                endpoints: text.to_owned(),
                tls_enable: tls.to_owned(),
                ..Config::default()
            };
            config.endpoints().map(|endpoints| {
                endpoints
                    .into_iter()
                    .map(|endpoint| format!("{}{}", if endpoint.secure { "+" } else { "" }, endpoint.address))
                    .collect::<Vec<_>>()
                    .join(" ")
            })
        };
        for (text, tls, expected) in [
            ("localhost:2379", "", "localhost:2379"),
            ("localhost:2379", "true", "+localhost:2379"),
            ("a:1, http://b:2,https://c:3/", "", "a:1 b:2 +c:3"),
            ("[::1]:2379", "", "[::1]:2379"),
        ] {
            assert_eq!(found(text, tls).unwrap(), expected, "{text}");
        }
        for text in [
            "",
            "a",
            "a:",
            "a:x",
            ":1",
            "::1",
            "unix://x",
            "user:pw@a:1",
            "a:1,",
            "a:1/b",
        ] {
            let error = found(text, "").unwrap_err();
            assert!(error.message.contains("endpoints"), "{text}: {}", error.message);
            assert!(!error.message.contains("pw"), "{}", error.message);
        }
    }

    #[test]
    fn tls_is_all_or_nothing() {
        let config = Config {
            tls_enable: "true".to_owned(),
            ca: "x".to_owned(),
            key: Hidden("secret".to_owned()),
            ..Config::default()
        };
        let error = config.tls(true).unwrap_err();
        assert!(
            error
                .message
                .contains("tls authentication information is incomplete"),
            "{}",
            error.message
        );
        assert!(!format!("{config:?}").contains("secret"));
    }
}
