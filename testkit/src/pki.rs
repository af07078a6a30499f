//! Certificates for tests.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// An authority, and a certificate of it, all in PEM.
pub struct Pki {
    pub root: String,
    pub certificate: String,
    pub key: String,
}

impl Pki {
    /// A new authority, which nobody trusts yet, and a certificate for `localhost` and `127.0.0.1`.
    ///
    /// # Panics
    /// When no certificate can be made.
    pub fn new() -> Self {
        Self::of(&["localhost", "127.0.0.1"])
    }

    /// The same for other names.
    ///
    /// # Panics
    /// When no certificate can be made.
    pub fn of(names: &[&str]) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
        // Some libraries take a certificate for its own authority if both have one name.
        authority
            .distinguished_name
            .push(DnType::CommonName, "authority of a test");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().expect("a key");
        let root = authority.self_signed(&authority_key).expect("a certificate");
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let leaf = CertificateParams::new(names)
            .and_then(|leaf| leaf.signed_by(&key, &issuer))
            .expect("a certificate");
        Self {
            root: root.pem(),
            certificate: leaf.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}
