//! The three texts that most brokers and stores want for TLS.

use super::{Client, Config, Error, Pem, Trust, client, pair};

/// Metadata `caCert`, `clientCert` and `clientKey`, each in PEM form; what is empty is not given.
#[derive(Clone, Copy, Default)]
pub struct Texts<'a> {
    pub authority: &'a str,
    pub certificate: &'a str,
    pub key: &'a str,
}

impl<'a> Texts<'a> {
    pub fn any(&self) -> bool {
        !(self.authority.is_empty() && self.certificate.is_empty() && self.key.is_empty())
    }

    pub fn all(&self) -> bool {
        !(self.authority.is_empty() || self.certificate.is_empty() || self.key.is_empty())
    }

    /// The authority and no other; without one, those of the machine.
    pub fn trust(&self) -> Trust<'a> {
        match self.authority {
            "" => Trust::System,
            text => Trust::Only(Pem {
                field: "caCert",
                text,
            }),
        }
    }

    /// Mostly with [`Texts::trust`].
    ///
    /// # Errors
    /// What is wrong with which of them.
    pub fn client(&self, trust: Trust<'_>) -> Result<Config, Error> {
        let given = |text: &'a str| (!text.is_empty()).then_some(text);
        let identity = pair(
            ("clientCert", given(self.certificate)),
            ("clientKey", given(self.key)),
        )?;
        client(&Client {
            trust,
            identity,
            protocols: &[],
        })
    }
}
