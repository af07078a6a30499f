//! Values encrypted before they reach the store.
//!
//! A stored value is `BASE64||NAME`: AES-GCM with a nonce of its own before the ciphertext, and the name of the key, so that values
//! of an older key can be read while a new one is in use. Keys come from a secret store and are never shown.
//!
//! COMPAT(pkg/encryption): the format, the names. Unlike there, a key that cannot be read, that comes from no secret store,
//! or a second key without a first one stops the start: there, values are then stored as plain text. A
//! key should encrypt no more than four thousand million values.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use outrigger_component::metadata::Metadata;
use outrigger_component::state::{Item, Set};
use outrigger_resources::component::Component;
use std::fmt;

pub const PRIMARY: &str = "primaryEncryptionKey";
pub const SECONDARY: &str = "secondaryEncryptionKey";

const SEPARATOR: &[u8] = b"||";

/// The keys of one store.
pub struct Keys {
    primary: Key,
    secondary: Option<Key>,
}

struct Key {
    name: String,
    key: LessSafeKey,
}

/// Why a component has no keys although it asks for them.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Misconfigured {
    #[error(
        "failed to extract encryption key: metadata {0} must come from a secret store: give it a secretKeyRef"
    )]
    Inline(&'static str),
    #[error(
        "failed to extract encryption key: the secret {secret:?} of metadata {item} could not be read, or has no value"
    )]
    Missing { item: &'static str, secret: String },
    #[error(
        "failed to extract encryption key: metadata {0} must be 32, 48 or 64 hexadecimal digits (AES-128, 192 or 256)"
    )]
    Malformed(&'static str),
    #[error(
        "failed to extract encryption key: metadata {SECONDARY} needs {PRIMARY}, which encrypts what is written"
    )]
    OnlySecondary,
}

/// Why a stored value cannot be read; the sentence for callers.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unreadable {
    #[error("could not decrypt data: encryption key name not found on record")]
    NoName,
    #[error(
        "could not decrypt data: the record was encrypted with key {0:?}, which the component does not have"
    )]
    UnknownKey(String),
    #[error("could not decrypt data: the record is damaged, or was encrypted with another key of this name")]
    Damaged,
}

impl Keys {
    /// Takes the keys out of a component's resolved metadata; `None` when it asks for no encryption.
    pub fn take(document: &Component, metadata: &mut Metadata) -> Result<Option<Self>, Misconfigured> {
        let primary = Key::take(PRIMARY, document, metadata)?;
        let secondary = Key::take(SECONDARY, document, metadata)?;
        match (primary, secondary) {
            (Some(primary), secondary) => Ok(Some(Self { primary, secondary })),
            (None, Some(_)) => Err(Misconfigured::OnlySecondary),
            (None, None) => Ok(None),
        }
    }

    /// As it is stored, by the first key.
    pub fn encrypt(&self, set: Set) -> Set {
        let plain = plain(&set);
        let value = self.primary.encrypt(&plain).into();
        Set {
            value,
            is_json: false,
            ..set
        }
    }

    pub fn decrypt(&self, item: Item) -> Result<Item, Unreadable> {
        let value = self.open(&item.value)?;
        Ok(Item { value, ..item })
    }

    fn open(&self, stored: &[u8]) -> Result<Bytes, Unreadable> {
        if stored.is_empty() {
            return Ok(Bytes::new());
        }
        let end = stored
            .windows(SEPARATOR.len())
            .rposition(|window| window == SEPARATOR)
            .ok_or(Unreadable::NoName)?;
        let (text, name) = stored.split_at(end);
        let name = name.strip_prefix(SEPARATOR).unwrap_or_default();
        if name.is_empty() {
            return Err(Unreadable::NoName);
        }
        let key = std::iter::once(&self.primary)
            .chain(&self.secondary)
            .find(|key| key.name.as_bytes() == name)
            .ok_or_else(|| Unreadable::UnknownKey(String::from_utf8_lossy(name).into_owned()))?;
        key.decrypt(text)
    }
}

impl Key {
    fn take(
        item: &'static str,
        document: &Component,
        metadata: &mut Metadata,
    ) -> Result<Option<Self>, Misconfigured> {
        let asked = document
            .metadata
            .iter()
            .find(|property| property.name.eq_ignore_ascii_case(item));
        let Some(asked) = asked else { return Ok(None) };
        // It is ours, not the component's.
        let text = metadata.remove(&asked.name).unwrap_or_default();
        let secret = &asked.secret_key_ref.name;
        match (secret.is_empty(), text.is_empty()) {
            (true, true) => return Ok(None),
            (true, false) => return Err(Misconfigured::Inline(item)),
            (false, true) => {
                return Err(Misconfigured::Missing {
                    item,
                    secret: secret.clone(),
                });
            }
            (false, false) => {}
        }
        let bytes = hex(&text).ok_or(Misconfigured::Malformed(item))?;
        let algorithm = match bytes.len() {
            16 => &AES_128_GCM,
            24 => &AES_192_GCM,
            32 => &AES_256_GCM,
            _ => return Err(Misconfigured::Malformed(item)),
        };
        let key = UnboundKey::new(algorithm, &bytes).map_err(|_| Misconfigured::Malformed(item))?;
        Ok(Some(Self {
            name: secret.clone(),
            key: LessSafeKey::new(key),
        }))
    }

    fn encrypt(&self, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).expect("the system's random numbers do not fail once they have begun");
        let mut sealed = plain.to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed)
            .expect("values are far below the limit of the cipher, 64 GiB");
        let mut record = nonce.to_vec();
        record.append(&mut sealed);
        let mut text = BASE64.encode(record).into_bytes();
        text.extend_from_slice(SEPARATOR);
        text.extend_from_slice(self.name.as_bytes());
        text
    }

    fn decrypt(&self, text: &[u8]) -> Result<Bytes, Unreadable> {
        let mut record = BASE64.decode(text).map_err(|_| Unreadable::Damaged)?;
        let (nonce, sealed) = record
            .split_at_mut_checked(NONCE_LEN)
            .ok_or(Unreadable::Damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unreadable::Damaged)?;
        let plain = self
            .key
            .open_in_place(nonce, Aad::empty(), sealed)
            .map_err(|_| Unreadable::Damaged)?;
        Ok(Bytes::copy_from_slice(plain))
    }
}

/// COMPAT(pkg/api/http/http.go): a JSON text of the HTTP API is encrypted without its quotes and comes back so. What was
/// said to be of a content type (as gRPC callers do) is taken as it is.
fn plain(set: &Set) -> Bytes {
    if set.is_json
        && set.content_type.is_none()
        && set.value.first() == Some(&b'"')
        && let Ok(text) = serde_json::from_slice::<String>(&set.value)
    {
        return text.into();
    }
    set.value.clone()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits?;
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    Some(
        pairs
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
            .collect(),
    )
}

/// Names only.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("primary", &self.primary.name)
            .field("secondary", &self.secondary.as_ref().map(|key| &key.name))
            .finish()
    }
}

#[cfg(test)]
mod tests;
