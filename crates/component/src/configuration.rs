//! Configuration stores: named values that others write, and that apps read and watch.
//!
//! Keys are as the app wrote them: a configuration is shared by all apps that may use the store.

use crate::Component;
use crate::error::Result;
use crate::metadata::Metadata;
use futures::stream::BoxStream;
use std::collections::BTreeMap;

/// Which values are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Get {
    /// Empty: every key of the store.
    pub keys: Vec<String>,
    pub metadata: Metadata,
}

/// One value. All fields are empty for a key that was removed while it was watched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Item {
    pub value: String,
    /// Changes whenever the value does; empty where the store has none.
    pub version: String,
    pub metadata: Metadata,
}

/// Values by key.
pub type Items = BTreeMap<String, Item>;

/// What changed, each time it does; never empty. Dropping it ends the watch.
pub type Changes = BoxStream<'static, Items>;

#[async_trait::async_trait]
pub trait ConfigurationStore: Component {
    /// Keys that are not there are left out.
    async fn get(&self, get: &Get) -> Result<Items>;

    /// Once this answers, no later change is missed; changes that come faster than they are read may be merged. A store
    /// whose backend is lost for a while goes on by itself and then tells what differs.
    async fn watch(&self, get: &Get) -> Result<Changes>;
}
