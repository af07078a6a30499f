//! An app whose health is probed: while it is down, calls are refused at once instead of waiting for it.
//!
//! COMPAT(pkg/channel/http/http_channel.go, pkg/channel/grpc/grpc_channel.go): only invocations are refused here;
//! subscriptions and bindings are paused by their owners.

use super::bulk::{BulkEvent, Verdict};
use super::{AppChannel, Outcome, Subscription, TopicEvent, binding};
use crate::body::Body;
use crate::call::{Call, Reply};
use crate::error::Error;
use http::{Request, Response};
use std::sync::Arc;
use tokio::sync::watch;

pub struct Gated {
    app: Arc<dyn AppChannel>,
    healthy: watch::Receiver<bool>,
}

impl Gated {
    /// `healthy` is what the probes say; the app begins as it says.
    pub fn new(app: Arc<dyn AppChannel>, healthy: watch::Receiver<bool>) -> Self {
        Self { app, healthy }
    }
}

#[async_trait::async_trait]
impl AppChannel for Gated {
    async fn subscriptions(&self) -> Result<Vec<Subscription>, Error> {
        self.app.subscriptions().await
    }

    async fn hosted(&self) -> Result<Vec<String>, Error> {
        self.app.hosted().await
    }

    async fn invoke(&self, call: Call) -> Result<Reply, Error> {
        if !*self.healthy.borrow() {
            return Err(Error::Unhealthy);
        }
        self.app.invoke(call).await
    }

    async fn deliver(&self, event: TopicEvent) -> Result<Outcome, Error> {
        self.app.deliver(event).await
    }

    async fn deliver_bulk(&self, event: BulkEvent) -> Result<Vec<Verdict>, Error> {
        self.app.deliver_bulk(event).await
    }

    async fn takes(&self, binding: &str, route: &str) -> Result<bool, Error> {
        self.app.takes(binding, route).await
    }

    async fn trigger(&self, event: binding::Event) -> Result<binding::Reply, Error> {
        self.app.trigger(event).await
    }

    async fn proxy(&self, request: Request<Body>) -> Result<Response<Body>, Error> {
        self.app.proxy(request).await
    }

    async fn healthy(&self) -> Result<(), Error> {
        self.app.healthy().await
    }
}
