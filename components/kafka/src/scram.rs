//! SCRAM (RFC 5802, RFC 7677), without channel binding, as Kafka does it: proves that both sides know the password.
//!
//! INVARIANT: the server's signature is checked; a server that does not know the password is refused.

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use std::num::NonZeroU32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha512,
}

/// What the server may ask for: more iterations are an attack on our processor.
const MOST_ITERATIONS: u32 = 1_000_000;

impl Hash {
    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        }
    }
}

/// A login before the server has said anything.
pub(crate) struct Exchange<'a> {
    hash: Hash,
    password: &'a str,
    /// Without the head that says "no channel binding".
    bare: String,
    nonce: String,
}

/// Our last message, and what the server must answer to it.
pub(crate) struct Proof {
    pub message: String,
    signature: Vec<u8>,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(hash: Hash, user: &str, password: &'a str) -> Self {
        let nonce = BASE64.encode(rand::random::<[u8; 24]>());
        Self::with_nonce(hash, user, password, nonce)
    }

    fn with_nonce(hash: Hash, user: &str, password: &'a str, nonce: String) -> Self {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        Self {
            hash,
            password,
            bare: format!("n={user},r={nonce}"),
            nonce,
        }
    }

    pub(crate) fn first(&self) -> String {
        format!("n,,{}", self.bare)
    }

    /// # Errors
    /// When the challenge is none, or not an answer to our first message.
    pub(crate) fn proof(&self, challenge: &[u8]) -> Result<Proof, &'static str> {
        let challenge = std::str::from_utf8(challenge).map_err(|_| "its challenge is no text")?;
        let nonce = attribute(challenge, "r=").ok_or("its challenge has no nonce")?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("its challenge is for somebody else");
        }
        let salt = attribute(challenge, "s=").and_then(|salt| BASE64.decode(salt).ok());
        let salt = salt.ok_or("its challenge has no salt")?;
        let iterations: Option<u32> = attribute(challenge, "i=").and_then(|count| count.parse().ok());
        let iterations = iterations
            .filter(|count| *count <= MOST_ITERATIONS)
            .and_then(NonZeroU32::new)
            .ok_or("its challenge has no sensible number of iterations")?;

        let mut salted = vec![0; self.hash.digest().output_len];
        pbkdf2::derive(
            self.hash.pbkdf2(),
            iterations,
            &salt,
            self.password.as_bytes(),
            &mut salted,
        );
        let client_key = self.sign(&salted, b"Client Key");
        let stored_key = digest::digest(self.hash.digest(), client_key.as_ref());
        let unproved = format!("c=biws,r={nonce}");
        let all = format!("{},{challenge},{unproved}", self.bare);
        let signature = self.sign(stored_key.as_ref(), all.as_bytes());
        let mixed = client_key.as_ref().iter().zip(signature.as_ref());
        let proof: Vec<u8> = mixed.map(|(key, signature)| key ^ signature).collect();
        let server_key = self.sign(&salted, b"Server Key");
        Ok(Proof {
            message: format!("{unproved},p={}", BASE64.encode(proof)),
            signature: self.sign(server_key.as_ref(), all.as_bytes()).as_ref().to_vec(),
        })
    }

    fn sign(&self, key: &[u8], message: &[u8]) -> hmac::Tag {
        hmac::sign(&hmac::Key::new(self.hash.hmac(), key), message)
    }
}

impl Proof {
    /// # Errors
    /// When the server does not know the password, or does not take ours.
    pub(crate) fn check(&self, verdict: &[u8]) -> Result<(), &'static str> {
        let verdict = std::str::from_utf8(verdict).map_err(|_| "its verdict is no text")?;
        let signature = attribute(verdict, "v=").and_then(|signature| BASE64.decode(signature).ok());
        let signature = signature.ok_or("user or password is wrong")?;
        constant_time::verify_slices_are_equal(&signature, &self.signature)
            .map_err(|_| "it does not know the password itself")
    }
}

fn attribute<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message.split(',').find_map(|part| part.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use super::{Exchange, Hash};

    /// RFC 7677, section 3.
    #[test]
    fn the_example_of_the_rfc() {
        let exchange =
            Exchange::with_nonce(Hash::Sha256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO".to_owned());
        assert_eq!(exchange.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let challenge =
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let proof = exchange.proof(challenge.as_bytes()).unwrap();
        assert_eq!(
            proof.message,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(
            proof.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
            Ok(())
        );
        for wrong in [
            "v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            "e=invalid-proof",
            "",
        ] {
            assert!(proof.check(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_wrong_challenge_is_refused() {
        let exchange = Exchange::with_nonce(Hash::Sha512, "u,=", "p", "abc".to_owned());
        assert_eq!(exchange.first(), "n,,n=u=2C=3D,r=abc");
        for challenge in [
            "",
            "r=other,s=YQ==,i=4096",
            "r=abc,s=YQ==,i=4096",
            "r=abcd,i=4096",
            "r=abcd,s=YQ==,i=0",
            "r=abcd,s=YQ==,i=4000000000",
            "r=abcd,s=!,i=4096",
        ] {
            assert!(exchange.proof(challenge.as_bytes()).is_err(), "{challenge}");
        }
        assert!(exchange.proof(b"r=abcd,s=YQ==,i=4096").is_ok());
    }
}
