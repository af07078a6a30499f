//! All topics, by id. The commit thread adds; everybody looks up.

use crate::topic::Topic;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

#[derive(Default)]
pub(crate) struct Topics(RwLock<BTreeMap<u32, Arc<Topic>>>);

impl Topics {
    pub(crate) fn get(&self, id: u32) -> Option<Arc<Topic>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        let topics = self.0.read().unwrap_or_else(PoisonError::into_inner);
        topics.values().cloned().collect()
    }

    /// The topic of this id, made when there is none.
    pub(crate) fn obtain(&self, id: u32, name: &str, next: u64) -> Arc<Topic> {
        let mut topics = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let topic = topics
            .entry(id)
            .or_insert_with(|| Arc::new(Topic::new(id, name.to_owned(), next)));
        topic.clone()
    }
}
