//! Secret stores.

use crate::Component;
use crate::error::Result;
use crate::metadata::Metadata;
use std::collections::BTreeMap;
use std::fmt;

/// The named values behind one secret. `Debug` shows names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub BTreeMap<String, String>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.keys().map(|name| (name, "***")))
            .finish()
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// A secret can hold several named values.
    pub multiple_key_values_per_secret: bool,
}

impl Features {
    pub fn names(&self) -> Vec<&'static str> {
        if self.multiple_key_values_per_secret {
            vec!["MULTIPLE_KEY_VALUES_PER_SECRET"]
        } else {
            Vec::new()
        }
    }
}

#[async_trait::async_trait]
pub trait SecretStore: Component {
    fn features(&self) -> Features;

    /// An absent secret is an error of kind `NotFound`, except where the backend cannot tell (then an empty one).
    async fn get(&self, name: &str, metadata: &Metadata) -> Result<Secret>;

    async fn all(&self, metadata: &Metadata) -> Result<BTreeMap<String, Secret>>;
}
