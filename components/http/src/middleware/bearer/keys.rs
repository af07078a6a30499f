//! A JSON Web Key Set, and signatures by its keys.
//!
//! Source: RFC 7517, RFC 7518, RFC 8037. Keys that are not for signatures, symmetric ones, and those of kinds or curves that are not
//! listed here are left out: a token that names one is refused.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::Deserialize;

/// Most keys of one set that are kept.
const MOST: usize = 100;

#[derive(Debug, Default)]
pub(super) struct Keys(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: String,
    /// The only algorithm it may be used with, if it says so.
    algorithm: Option<String>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// An uncompressed point on the curve of that algorithm.
    Elliptic {
        algorithm: &'static str,
        point: Vec<u8>,
    },
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Written {
    kty: String,
    kid: String,
    #[serde(rename = "use")]
    usage: String,
    alg: Option<String>,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
}

impl Keys {
    /// `None` for what is no key set.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let document: Document = serde_json::from_slice(text).ok()?;
        let keys = document.keys.into_iter().filter_map(Key::read);
        Some(Self(keys.take(MOST).collect()))
    }

    pub(super) fn knows(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id == id)
    }

    /// Whether a key of that id made the signature, with that algorithm.
    pub(super) fn signed(&self, id: &str, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        self.0
            .iter()
            .filter(|key| key.id == id)
            .any(|key| key.signed(algorithm, message, signature))
    }
}

impl Key {
    fn read(value: serde_json::Value) -> Option<Self> {
        let written: Written = serde_json::from_value(value).ok()?;
        if !matches!(written.usage.as_str(), "" | "sig") {
            return None;
        }
        let bytes = |text: &str| {
            BASE64
                .decode(text.trim_end_matches('='))
                .ok()
                .filter(|bytes| !bytes.is_empty())
        };
        let material = match (written.kty.as_str(), written.crv.as_str()) {
            ("RSA", _) => Material::Rsa {
                modulus: bytes(&written.n)?,
                exponent: bytes(&written.e)?,
            },
            ("EC", curve) => {
                let (algorithm, size) = match curve {
                    "P-256" => ("ES256", 32),
                    "P-384" => ("ES384", 48),
                    "P-521" => ("ES512", 66),
                    _ => return None,
                };
                let (x, y) = (bytes(&written.x)?, bytes(&written.y)?);
                if x.len() != size || y.len() != size {
                    return None;
                }
                Material::Elliptic {
                    algorithm,
                    point: [&[4], &x[..], &y[..]].concat(),
                }
            }
            ("OKP", "Ed25519") => Material::Ed25519(bytes(&written.x)?),
            _ => return None,
        };
        Some(Self {
            id: written.kid,
            algorithm: written.alg,
            material,
        })
    }

    fn signed(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        if self.algorithm.as_deref().is_some_and(|only| only != algorithm) {
            return false;
        }
        match &self.material {
            Material::Rsa { modulus, exponent } => {
                let Some(parameters) = rsa(algorithm) else {
                    return false;
                };
                let key = RsaPublicKeyComponents {
                    n: modulus,
                    e: exponent,
                };
                key.verify(parameters, message, signature).is_ok()
            }
            Material::Elliptic {
                algorithm: own,
                point,
            } => {
                let curve: &'static dyn VerificationAlgorithm = match algorithm {
                    "ES256" => &ECDSA_P256_SHA256_FIXED,
                    "ES384" => &ECDSA_P384_SHA384_FIXED,
                    "ES512" => &ECDSA_P521_SHA512_FIXED,
                    _ => return false,
                };
                algorithm == *own
                    && UnparsedPublicKey::new(curve, point)
                        .verify(message, signature)
                        .is_ok()
            }
            Material::Ed25519(point) => {
                matches!(algorithm, "EdDSA" | "Ed25519")
                    && UnparsedPublicKey::new(&ED25519, point)
                        .verify(message, signature)
                        .is_ok()
            }
        }
    }
}

fn rsa(algorithm: &str) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        "RS256" => &RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &RSA_PSS_2048_8192_SHA256,
        "PS384" => &RSA_PSS_2048_8192_SHA384,
        "PS512" => &RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}
