//! `Debug` for messages that carry secrets: names are shown, values never.
//!
//! The generator leaves these impls out for the messages in its `REDACTED` list.

use std::collections::HashMap;
use std::fmt;

use crate::dapr::runtime::v1::{GetSecretResponse, SecretResponse};

impl fmt::Debug for GetSecretResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetSecretResponse")
            .field("data", &Names(&self.data))
            .finish()
    }
}

impl fmt::Debug for SecretResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretResponse")
            .field("secrets", &Names(&self.secrets))
            .finish()
    }
}

/// Prints the keys of a map only.
struct Names<'a>(&'a HashMap<String, String>);

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use crate::dapr::runtime::v1::{GetBulkSecretResponse, GetSecretResponse, SecretResponse};

    #[test]
    fn values_stay_out_of_debug() {
        let pair = HashMap::from([("db-password".to_owned(), "hunter2".to_owned())]);
        let one = GetSecretResponse { data: pair.clone() };
        let all = GetBulkSecretResponse {
            data: HashMap::from([("db-password".to_owned(), SecretResponse { secrets: pair })]),
        };
        for text in [format!("{one:?}"), format!("{all:?}")] {
            assert!(text.contains("db-password"), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
