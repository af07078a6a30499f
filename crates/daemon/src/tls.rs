//! TLS as a client, out of plain values: whom to trust, who we are, which protocols to offer.
//!
//! One function, [`client`], serves everybody who speaks TLS to a server: apps (`https`, `grpcs`), HTTP endpoints, the HTTP
//! binding, token issuers, trace collectors. [`connector`] and [`web`] put it under hyper's pooled client.
//!
//! Invariants
//! - TLS 1.2 and 1.3 only. The cryptography is aws-lc-rs, handed over as a value: nothing is installed process-wide.
//! - Private keys are never shown: neither in errors nor by `Debug`.
//!
//! Deliberately absent: TLS as a server and the identities of sidecars (mTLS), and renegotiation, which TLS 1.3 has
//! abolished: see [`renegotiation`].

mod anybody;
mod failure;
#[cfg(test)]
pub(crate) mod tests;
mod texts;
mod web;

pub use failure::{failure, refusal};
pub use texts::Texts;
pub use web::{Connector, Streaming, Web, connector, streaming};

use anybody::Anybody;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::sync::Arc;

/// PEM text, and what the person who wrote it calls it (`clientTLS.rootCA`, `MTLSRootCA`), for error messages.
#[derive(Clone, Copy)]
pub struct Pem<'a> {
    pub field: &'a str,
    pub text: &'a str,
}

/// Whose certificates are accepted.
#[derive(Debug, Clone, Copy, Default)]
pub enum Trust<'a> {
    /// Those of the machine's certificate authorities. Reading them touches some hundred files or one large one.
    #[default]
    System,
    /// Those of these authorities and of no other, as the reference does wherever a root certificate can be given.
    Only(Pem<'a>),
    /// Those of these authorities and of the machine's.
    SystemAnd(Pem<'a>),
    /// None: for clients that are not to speak TLS.
    Nobody,
    /// Any: the connection is encrypted, but to whom is not known. Only where the reference does the same (an app beside
    /// its sidecar) or where somebody asked for it by name.
    Anybody,
}

/// What we show to a server that asks who we are.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The certificate, followed by those that lead to its authority.
    pub certificate: Pem<'a>,
    /// PKCS #8, PKCS #1 or SEC 1.
    pub key: Pem<'a>,
}

/// What [`client`] gives.
pub type Config = ClientConfig;

/// What [`client`] is made from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Client<'a> {
    pub trust: Trust<'a>,
    pub identity: Option<Identity<'a>>,
    /// Offered by ALPN, best first (`h2`, `http/1.1`). Must be empty for [`connector`], which offers both.
    pub protocols: &'a [&'a [u8]],
}

/// Why there is no TLS with these values. The texts name the field that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{field} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")]
    NoCertificate { field: String },
    #[error("{field} is not a valid certificate: {cause}")]
    Certificate { field: String, cause: String },
    #[error("{field} is not a private key in PEM form (PKCS #8, PKCS #1 or SEC 1, not encrypted): {cause}")]
    Key { field: String, cause: String },
    #[error("{certificate} and {key} do not belong together: {cause}")]
    Pair {
        certificate: String,
        key: String,
        cause: rustls::Error,
    },
    #[error("{given} is set, but {missing} is not: a client certificate needs both")]
    Half {
        given: &'static str,
        missing: &'static str,
    },
    #[error("this machine's certificate authorities cannot be read: {0}")]
    System(String),
    #[error("{field} is {value:?}, but must be one of Never, OnceAsClient, FreelyAsClient")]
    Renegotiation { field: String, value: String },
    #[error("{0}")]
    Provider(rustls::Error),
}

/// A configuration for connections to servers.
pub fn client(settings: &Client<'_>) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(Error::Provider)?;
    let builder = match roots(&settings.trust)? {
        Some(roots) => builder.with_root_certificates(roots),
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(accept_anybody(&provider)),
    };
    let mut config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = certificates(identity.certificate)?;
            let key =
                PrivateKeyDer::from_pem_slice(identity.key.text.as_bytes()).map_err(|error| Error::Key {
                    field: identity.key.field.to_owned(),
                    cause: error.to_string(),
                })?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|cause| Error::Pair {
                    certificate: identity.certificate.field.to_owned(),
                    key: identity.key.field.to_owned(),
                    cause,
                })?
        }
    };
    config.alpn_protocols = settings.protocols.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// A certificate and its key, of which either both are given or none.
///
/// # Errors
/// [`Error::Half`], with the names of the fields.
pub fn pair<'a>(
    certificate: (&'static str, Option<&'a str>),
    key: (&'static str, Option<&'a str>),
) -> Result<Option<Identity<'a>>, Error> {
    let half = |given, missing| Err(Error::Half { given, missing });
    match (certificate.1, key.1) {
        (None, None) => Ok(None),
        (Some(_), None) => half(certificate.0, key.0),
        (None, Some(_)) => half(key.0, certificate.0),
        (Some(certificate_text), Some(key_text)) => Ok(Some(Identity {
            certificate: Pem {
                field: certificate.0,
                text: certificate_text,
            },
            key: Pem {
                field: key.0,
                text: key_text,
            },
        })),
    }
}

/// Judges a `renegotiation` option, with or without the word `Renegotiate` in front. Renegotiation does not exist in
/// TLS 1.3 and not in our TLS 1.2: the text is a warning for whoever asked for it.
pub fn renegotiation(field: &str, value: &str) -> Result<Option<String>, Error> {
    match value.strip_prefix("Renegotiate").unwrap_or(value) {
        "" | "Never" => Ok(None),
        "OnceAsClient" | "FreelyAsClient" => Ok(Some(format!(
            "{field} is {value}, which has no effect: a server that asks for a new handshake on a TLS 1.2 connection is refused"
        ))),
        _ => Err(Error::Renegotiation {
            field: field.to_owned(),
            value: value.to_owned(),
        }),
    }
}

/// Certificates of the machine's authorities, those that can be read: for client libraries that make their own configuration.
pub fn authorities() -> Vec<CertificateDer<'static>> {
    let found = rustls_native_certs::load_native_certs().certs.into_iter();
    found
        .filter(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok())
        .collect()
}

/// `None` is anybody.
fn roots(trust: &Trust<'_>) -> Result<Option<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    if let Trust::System | Trust::SystemAnd(_) = trust {
        let found = rustls_native_certs::load_native_certs();
        // One unreadable file among many is no reason to trust nobody.
        let (added, _ignored) = roots.add_parsable_certificates(found.certs);
        if let (0, Trust::System) = (added, trust) {
            let causes: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
            return Err(Error::System(if causes.is_empty() {
                "none were found; install them (ca-certificates), or set SSL_CERT_FILE".to_owned()
            } else {
                causes.join("; ")
            }));
        }
    }
    match trust {
        Trust::System | Trust::Nobody => {}
        Trust::Only(pem) | Trust::SystemAnd(pem) => {
            for certificate in certificates(*pem)? {
                roots.add(certificate).map_err(|error| Error::Certificate {
                    field: pem.field.to_owned(),
                    cause: error.to_string(),
                })?;
            }
        }
        Trust::Anybody => return Ok(None),
    }
    Ok(Some(roots))
}

fn certificates(pem: Pem<'_>) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = CertificateDer::pem_slice_iter(pem.text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::Certificate {
            field: pem.field.to_owned(),
            cause: error.to_string(),
        })?;
    if chain.is_empty() {
        return Err(Error::NoCertificate {
            field: pem.field.to_owned(),
        });
    }
    Ok(chain)
}

fn accept_anybody(provider: &CryptoProvider) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Anybody::new(provider.signature_verification_algorithms))
}

impl fmt::Debug for Pem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ***", self.field)
    }
}
