//! Handshakes with a real server, and what is said of values that cannot be used.

use super::{Client, Error, Identity, Pem, Trust, client, failure, pair, renegotiation};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use std::sync::Arc;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// An authority, and a certificate of it for `localhost`.
pub(crate) struct Pki {
    pub(crate) root: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Pki {
    pub(crate) fn new() -> Self {
        Self::valid(1975, 4096)
    }

    /// Its certificate is valid in these years and those between.
    fn valid(first: i32, last: i32) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let root = authority.self_signed(&authority_key).unwrap();
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        leaf.not_before = rcgen::date_time_ymd(first, 1, 1);
        leaf.not_after = rcgen::date_time_ymd(last, 12, 31);
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        Self {
            root: root.pem(),
            certificate: leaf.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A server with our certificate, which asks clients for one of `clients`.
    pub(crate) fn server(&self, clients: Option<&Self>) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let roots = super::roots(&Trust::Only(pem(&clients.root))).unwrap().unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let chain = vec![CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    fn identity(&self) -> Identity<'_> {
        Identity {
            certificate: pem(&self.certificate),
            key: pem(&self.key),
        }
    }
}

fn pem(text: &str) -> Pem<'_> {
    Pem {
        field: "clientTLS.x",
        text,
    }
}

/// Shakes hands and exchanges a byte, since a server's refusal of a client arrives after the client's handshake.
async fn meet(settings: &Client<'_>, acceptor: TlsAcceptor) -> Result<(), String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let serving = crate::testing::spawn(async move {
        let mut stream = acceptor.accept(theirs).await?;
        stream.write_all(b"!").await?;
        stream.flush().await?;
        // Until the client is gone.
        let _gone = stream.read(&mut [0]).await;
        std::io::Result::Ok(())
    });
    let connector = TlsConnector::from(Arc::new(client(settings).unwrap()));
    let name = ServerName::try_from("localhost").unwrap();
    let outcome = async {
        let mut stream = connector.connect(name, ours).await?;
        stream.read_exact(&mut [0]).await?;
        std::io::Result::Ok(())
    }
    .await;
    serving.abort();
    outcome.map_err(|error| failure(&error))
}

#[tokio::test]
async fn who_is_trusted() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    let both = format!("{}\n{}", theirs.root, ours.root);
    for (what, settings, expected) in [
        ("its authority", Trust::Only(pem(&ours.root)), None),
        ("one of two authorities", Trust::Only(pem(&both)), None),
        (
            "another authority",
            Trust::Only(pem(&theirs.root)),
            Some("tls: failed to verify certificate: x509: "),
        ),
        ("beside the machine's", Trust::SystemAnd(pem(&ours.root)), None),
        ("anybody", Trust::Anybody, None),
    ] {
        let settings = Client {
            trust: settings,
            ..Client::default()
        };
        let outcome = meet(&settings, ours.server(None)).await;
        match expected {
            None => assert_eq!(outcome, Ok(()), "{what}"),
            Some(text) => assert!(
                outcome.clone().unwrap_err().starts_with(text),
                "{what}: {outcome:?}"
            ),
        }
    }
}

#[tokio::test]
async fn certificates_out_of_time() {
    for (first, last, expected) in [
        (1999, 2000, "is after 2000-12-31T00:00:00Z; "),
        (3000, 3001, "is before 3000-01-01T00:00:00Z; "),
    ] {
        let pki = Pki::valid(first, last);
        let settings = Client {
            trust: Trust::Only(pem(&pki.root)),
            ..Client::default()
        };
        let error = meet(&settings, pki.server(None)).await.unwrap_err();
        let begin = "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 2";
        assert!(error.starts_with(begin) && error.contains(expected), "{error}");
        assert!(error.ends_with("set the clock of this machine right"), "{error}");
    }
}

#[tokio::test]
async fn who_we_are() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    for (what, identity, expected) in [
        ("known", Some(ours.identity()), Ok(())),
        ("unknown", Some(theirs.identity()), Err("remote error: tls: ")),
        ("nobody", None, Err("remote error: tls: CertificateRequired")),
    ] {
        let settings = Client {
            trust: Trust::Only(pem(&ours.root)),
            identity,
            ..Client::default()
        };
        let outcome = meet(&settings, ours.server(Some(&ours))).await;
        match expected {
            Ok(()) => assert_eq!(outcome, Ok(()), "{what}"),
            Err(text) => assert!(
                outcome.clone().unwrap_err().starts_with(text),
                "{what}: {outcome:?}"
            ),
        }
    }
}

#[test]
fn what_cannot_be_used_is_named() {
    let (one, other) = (Pki::new(), Pki::new());
    let garbled = one.certificate.replacen("MII", "M!I", 1);
    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let root = |text| Client {
        trust: Trust::Only(Pem {
            field: "rootCA",
            text,
        }),
        ..Client::default()
    };
    let identity = |certificate, key| Client {
        trust: Trust::Anybody,
        identity: Some(Identity {
            certificate: Pem {
                field: "cert",
                text: certificate,
            },
            key: Pem {
                field: "key",
                text: key,
            },
        }),
        protocols: &[],
    };
    for (settings, expected) in [
        (root(""), "rootCA holds no certificate in PEM form"),
        (root(&one.key), "rootCA holds no certificate in PEM form"),
        (root(&garbled), "rootCA is not a valid certificate: "),
        (root(no_certificate), "rootCA is not a valid certificate: "),
        (identity("", &one.key), "cert holds no certificate"),
        (
            identity(&one.certificate, ""),
            "key is not a private key in PEM form",
        ),
        (
            identity(&one.certificate, &one.certificate),
            "key is not a private key in PEM form",
        ),
        (
            identity(&one.certificate, &other.key),
            "cert and key do not belong together: ",
        ),
    ] {
        let error = client(&settings).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn halves_of_a_pair() {
    let pair = |certificate, key| pair(("certificate", certificate), ("privateKey", key));
    assert!(pair(None, None).unwrap().is_none());
    assert!(pair(Some("c"), Some("k")).unwrap().is_some());
    for (given, missing, outcome) in [
        ("certificate", "privateKey", pair(Some("c"), None)),
        ("privateKey", "certificate", pair(None, Some("k"))),
    ] {
        assert_eq!(
            outcome.unwrap_err().to_string(),
            format!("{given} is set, but {missing} is not: a client certificate needs both")
        );
    }
}

#[test]
fn renegotiation_is_judged() {
    for (value, warns) in [
        ("", false),
        ("Never", false),
        ("RenegotiateNever", false),
        ("OnceAsClient", true),
        ("RenegotiateFreelyAsClient", true),
    ] {
        let warning = renegotiation("renegotiation", value).unwrap();
        assert_eq!(warning.is_some(), warns, "{value}");
    }
    let error = renegotiation("clientTLS.renegotiation", "Always").unwrap_err();
    assert!(matches!(error, Error::Renegotiation { .. }));
    assert!(
        error
            .to_string()
            .starts_with("clientTLS.renegotiation is \"Always\"")
    );
}

#[test]
fn keys_are_not_shown() {
    let one = Pki::new();
    let settings = Client {
        trust: Trust::Only(pem(&one.root)),
        identity: Some(one.identity()),
        protocols: &[],
    };
    let shown = format!("{settings:?}");
    assert!(!shown.contains("BEGIN") && !shown.contains("PRIVATE"), "{shown}");
}
