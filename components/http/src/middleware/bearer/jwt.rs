//! JSON Web Tokens, as far as we check them. Source: RFC 7515, RFC 7519.

use super::keys::Keys;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::Deserialize;
use serde_json::Value;

/// How far clocks may be apart, in seconds.
const TOLERANCE: f64 = 300.0;

/// What a token must say.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) issuer: String,
    pub(super) audience: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is well formed, and names a key that is not in the set.
    UnknownKey,
    Invalid,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    /// Extensions that must be understood; we know none.
    #[serde(default)]
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    iss: String,
    #[serde(default)]
    aud: Value,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
}

impl Rules {
    /// `now` is in seconds since 1970.
    pub(super) fn check(&self, token: &str, keys: &Keys, now: u64) -> Result<(), Refused> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Refused::Invalid)?;
        let (header, claims) = signed.split_once('.').ok_or(Refused::Invalid)?;
        let header: Header = part(header)?;
        if header.crit.is_some() || header.kid.is_empty() {
            return Err(Refused::Invalid);
        }
        if !keys.knows(&header.kid) {
            return Err(Refused::UnknownKey);
        }
        let signature = BASE64.decode(signature).map_err(|_| Refused::Invalid)?;
        if !keys.signed(&header.kid, &header.alg, signed.as_bytes(), &signature) {
            return Err(Refused::Invalid);
        }
        let claims: Claims = part(claims)?;
        // Exact up to the year 285 million.
        let now = now as f64;
        let valid = claims.iss == self.issuer
            && names(&claims.aud, &self.audience)
            && claims.exp.is_none_or(|end| now - TOLERANCE < end)
            && claims.nbf.is_none_or(|begin| now + TOLERANCE >= begin)
            && claims.iat.is_none_or(|issued| now + TOLERANCE >= issued);
        if valid { Ok(()) } else { Err(Refused::Invalid) }
    }
}

fn part<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, Refused> {
    let decoded = BASE64.decode(text).map_err(|_| Refused::Invalid)?;
    serde_json::from_slice(&decoded).map_err(|_| Refused::Invalid)
}

/// One audience, or a list of them.
fn names(claim: &Value, audience: &str) -> bool {
    match claim {
        Value::String(one) => one == audience,
        Value::Array(all) => all.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    }
}
