//! A space of the hub's keys and values, as the components on it see it: state, locks, configuration.

use crate::link::{self, Link};
use outrigger_component::error::Result;
use outrigger_component::setup::Setup;
use outrigger_proto::hub::v1;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// Metadata of a component on a space.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Config {
    /// Default: the component's name. Two components of one space share its keys.
    space: Option<String>,
    socket: Option<PathBuf>,
    #[serde(deserialize_with = "outrigger_component::metadata::duration_opt")]
    wait_for_hub: Option<Duration>,
}

#[derive(Clone)]
pub(crate) struct Space {
    pub(crate) link: Link,
    pub(crate) name: String,
}

impl Space {
    /// `what` is the type of the component, for messages.
    pub(crate) async fn connect(setup: Setup<Config>, socket: Option<PathBuf>, what: &str) -> Result<Self> {
        let config = link::Config::of(setup.config.socket, setup.config.wait_for_hub);
        Ok(Self {
            link: Link::connect(&config, socket.as_deref(), what).await?,
            name: setup.config.space.unwrap_or(setup.name),
        })
    }

    /// What is stored under these keys, in their order.
    pub(crate) async fn get(&self, keys: Vec<String>) -> Result<Vec<Option<v1::Item>>> {
        let request = v1::GetRequest {
            space: self.name.clone(),
            keys,
        };
        let answer = self.link.call(true, || {
            let (mut state, request) = (self.link.state(), request.clone());
            async move { state.get(request).await }
        });
        let found = answer.await?.into_inner().found.into_iter();
        Ok(found.map(|found| found.item).collect())
    }

    /// A page of the keys with this prefix, from the first one behind `after` on; 0 leaves its length to the hub.
    pub(crate) async fn keys(&self, prefix: &str, after: &str, limit: u32) -> Result<v1::KeysResponse> {
        let request = v1::KeysRequest {
            space: self.name.clone(),
            prefix: prefix.to_owned(),
            after: after.to_owned(),
            limit,
        };
        let answer = self.link.call(true, || {
            let (mut state, request) = (self.link.state(), request.clone());
            async move { state.keys(request).await }
        });
        Ok(answer.await?.into_inner())
    }
}
