//! Saying who we are by a signed JWT instead of a secret (RFC 7523, `private_key_jwt`).

use super::encoded;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// COMPAT(components-contrib common/component/kafka/sasl_oauthbearer_private_key_jwt.go).
const LASTS: Duration = Duration::from_mins(1);
const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[derive(Clone)]
pub(crate) struct Assertion {
    key: Arc<RsaKeyPair>,
    /// Which of our keys it is, if the endpoint knows several.
    pub kid: String,
    /// Whom it is for, if not the endpoint by its URL.
    pub audience: String,
    pub resource: String,
}

impl Assertion {
    /// # Errors
    /// When `pem` is no private RSA key; says nothing of it.
    pub(crate) fn new(pem: &str) -> Result<Self, &'static str> {
        let key = match PrivateKeyDer::from_pem_slice(pem.as_bytes()) {
            Ok(PrivateKeyDer::Pkcs8(der)) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            Ok(PrivateKeyDer::Pkcs1(der)) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            Ok(_) => return Err("is no RSA key"),
            Err(_) => return Err("is not a private key in PEM form (PKCS #8 or PKCS #1, not encrypted)"),
        };
        Ok(Self {
            key: Arc::new(key.map_err(|_| "is no RSA key that can be used")?),
            kid: String::new(),
            audience: String::new(),
            resource: String::new(),
        })
    }

    /// The part of a form that says who asks.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub(super) fn form(&self, client_id: &str, endpoint: &str) -> Result<String, &'static str> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let jwt = self.jwt(client_id, endpoint, now)?;
        let mut form = format!(
            "client_id={}&client_assertion_type={}&client_assertion={}",
            encoded(client_id),
            encoded(TYPE),
            encoded(&jwt)
        );
        for (name, value) in [("audience", &self.audience), ("resource", &self.resource)] {
            if !value.is_empty() {
                form += &format!("&{name}={}", encoded(value));
            }
        }
        Ok(form)
    }

    fn jwt(&self, client_id: &str, endpoint: &str, now: Duration) -> Result<String, &'static str> {
        let mut head = json!({"alg": "RS256", "typ": "JWT"});
        if !self.kid.is_empty() {
            head["kid"] = self.kid.as_str().into();
        }
        let audience = match self.audience.as_str() {
            "" => endpoint,
            audience => audience,
        };
        let claims = json!({
            "iss": client_id,
            "sub": client_id,
            "aud": audience,
            "iat": now.as_secs(),
            "nbf": now.as_secs(),
            "exp": (now + LASTS).as_secs(),
            "jti": format!("{:032x}", rand::random::<u128>()),
        });
        let said = format!(
            "{}.{}",
            BASE64.encode(head.to_string()),
            BASE64.encode(claims.to_string())
        );
        let mut signature = vec![0; self.key.public_modulus_len()];
        let signed = self.key.sign(
            &RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            said.as_bytes(),
            &mut signature,
        );
        signed.map_err(|_| "oidcClientAssertionKey cannot sign")?;
        Ok(format!("{said}.{}", BASE64.encode(signature)))
    }
}

impl fmt::Debug for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assertion")
            .field("kid", &self.kid)
            .field("audience", &self.audience)
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Assertion;
    use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
    use base64::Engine as _;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as BASE64};
    use serde_json::{Value, json};
    use std::time::Duration;

    fn key() -> (String, RsaKeyPair) {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
        let text = BASE64_STANDARD.encode(der.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
        (pem, key)
    }

    #[test]
    fn it_says_who_asks_and_is_signed() {
        let (pem, key) = key();
        for (kid, audience, expected_head, expected_audience) in [
            ("", "", json!({"alg": "RS256", "typ": "JWT"}), "https://idp/token"),
            (
                "k1",
                "them",
                json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}),
                "them",
            ),
        ] {
            let assertion = Assertion {
                kid: kid.to_owned(),
                audience: audience.to_owned(),
                resource: "r s".to_owned(),
                ..Assertion::new(&pem).unwrap()
            };
            let jwt = assertion
                .jwt("app", "https://idp/token", Duration::from_secs(1000))
                .unwrap();
            let (said, signature) = jwt.rsplit_once('.').unwrap();
            UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref())
                .verify(said.as_bytes(), &BASE64.decode(signature).unwrap())
                .unwrap();
            let parts: Vec<Value> = said
                .split('.')
                .map(|part| serde_json::from_slice(&BASE64.decode(part).unwrap()).unwrap())
                .collect();
            assert_eq!(parts[0], expected_head);
            assert_eq!(
                (&parts[1]["iss"], &parts[1]["sub"], &parts[1]["aud"]),
                (&json!("app"), &json!("app"), &json!(expected_audience))
            );
            assert_eq!((&parts[1]["iat"], &parts[1]["exp"]), (&json!(1000), &json!(1060)));
            let form = assertion.form("a/b", "https://idp/token").unwrap();
            assert!(
                form.starts_with("client_id=a%2Fb&client_assertion_type=urn%3Aietf"),
                "{form}"
            );
            assert_eq!(form.contains("&audience=them"), kid == "k1", "{form}");
            assert!(form.ends_with("&resource=r%20s"), "{form}");
            assert!(!format!("{assertion:?}").contains("PRIVATE"));
        }
    }

    #[test]
    fn other_keys_are_refused() {
        for (pem, expected) in [
            ("x", "PEM"),
            (
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                "RSA",
            ),
            (
                "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n",
                "RSA",
            ),
        ] {
            let refused = Assertion::new(pem).expect_err(expected);
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
