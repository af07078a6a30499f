//! `nameresolution.outrigger`: announces this sidecar to the hub and knows the others of this machine.
//!
//! The hub tells every change, so that resolving is a look into memory. An app that is not there is asked for at
//! the hub once more; that answer is bounded by `waitForHub`. While no hub answers, the last known list stays.

use crate::link::{self, Backoff, Link};
use outrigger_component::Component;
use outrigger_component::error::Result;
use outrigger_component::resolver::{Endpoint, NameResolver, Target};
use outrigger_component::setup::Setup;
use outrigger_daemon::drain;
use outrigger_daemon::log::Log;
use outrigger_daemon::tasks::{OnExit, Tasks};
use outrigger_proto::hub::v1;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::time::sleep;
use tonic::Status;

type Known = Arc<RwLock<HashMap<Target, Vec<Endpoint>>>>;

#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Config {
    socket: Option<PathBuf>,
    #[serde(deserialize_with = "outrigger_component::metadata::duration_opt")]
    wait_for_hub: Option<Duration>,
}

pub(crate) struct Resolver {
    link: Link,
    known: Known,
    _tasks: Tasks,
}

impl Resolver {
    pub(crate) async fn connect(setup: Setup<Config>, socket: Option<PathBuf>) -> Result<Self> {
        let config = link::Config::of(setup.config.socket, setup.config.wait_for_hub);
        let link = Link::connect(&config, socket.as_deref(), "nameresolution.outrigger").await?;
        let (shutdown, _) = drain::channel();
        let tasks = Tasks::new(&setup.log, shutdown);
        let known = Known::default();
        // The hub serves one machine.
        let host = setup.instance.near_host;
        let host = match host.contains(':') {
            true => format!("[{}]", host.trim_matches(['[', ']'])),
            false => host,
        };
        let instance = v1::Instance {
            app_id: setup.instance.app_id,
            namespace: setup.instance.namespace,
            address: format!("{host}:{}", setup.instance.internal_port),
            http_port: setup.instance.http_port.into(),
            grpc_port: setup.instance.grpc_port.into(),
            pid: std::process::id().into(),
        };
        // The first announcement is made before this sidecar counts as ready.
        let lease = link
            .call(true, || announce(link.clone(), instance.clone()))
            .await?;
        let announcing = keep_announced(link.clone(), instance, lease, setup.log.clone());
        tasks.spawn("announcement", OnExit::Log, announcing);
        tasks.spawn("names", OnExit::Log, keep_known(link.clone(), known.clone()));
        Ok(Self {
            link,
            known,
            _tasks: tasks,
        })
    }

    fn lookup(&self, target: &Target) -> Vec<Endpoint> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(target).cloned().unwrap_or_default()
    }
}

#[async_trait::async_trait]
impl Component for Resolver {
    async fn ping(&self) -> Result<()> {
        self.link.ping().await
    }
}

#[async_trait::async_trait]
impl NameResolver for Resolver {
    async fn resolve(&self, target: &Target) -> Result<Vec<Endpoint>> {
        let found = self.lookup(target);
        if !found.is_empty() {
            return Ok(found);
        }
        let request = v1::ResolveRequest {
            app_id: target.app_id.clone(),
            namespace: target.namespace.clone(),
        };
        let answer = self
            .link
            .call(true, || {
                let (mut names, request) = (self.link.names(), request.clone());
                async move { names.resolve(request).await }
            })
            .await?;
        let instances = answer.into_inner().instances.into_iter();
        Ok(instances.map(|instance| Endpoint(instance.address)).collect())
    }

    /// The next look asks the hub, unless it has told of a change before.
    fn unreachable(&self, target: &Target, endpoint: &Endpoint) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoints) = known.get_mut(target) {
            endpoints.retain(|known| known != endpoint);
        }
    }
}

type Lease = tonic::Streaming<v1::RegisterResponse>;

/// Returns once the hub knows the instance.
async fn announce(link: Link, instance: v1::Instance) -> Result<Lease, Status> {
    let request = v1::RegisterRequest {
        instance: Some(instance),
    };
    let mut lease = link.names().register(request).await?.into_inner();
    lease.message().await?;
    Ok(lease)
}

async fn keep_announced(link: Link, instance: v1::Instance, mut lease: Lease, log: Log) {
    loop {
        // Nothing more comes until the hub ends.
        while let Ok(Some(_)) = lease.message().await {}
        log.debug("the hub has ended, announcing this sidecar again as soon as there is one");
        let mut backoff = Backoff::default();
        lease = loop {
            sleep(backoff.next()).await;
            match announce(link.clone(), instance.clone()).await {
                Ok(lease) => break lease,
                Err(status) => log.debug(format_args!("not announced: {}", status.message())),
            }
        };
    }
}

async fn keep_known(link: Link, known: Known) {
    let mut backoff = Backoff::default();
    loop {
        if let Ok(answer) = link.names().watch(v1::WatchRequest {}).await {
            let mut lists = answer.into_inner();
            while let Ok(Some(list)) = lists.message().await {
                backoff = Backoff::default();
                let mut all: HashMap<Target, Vec<Endpoint>> = HashMap::new();
                for instance in list.instances {
                    let target = Target {
                        app_id: instance.app_id,
                        namespace: instance.namespace,
                    };
                    let endpoints = all.entry(target).or_default();
                    let endpoint = Endpoint(instance.address);
                    if !endpoints.contains(&endpoint) {
                        endpoints.push(endpoint);
                    }
                }
                *known.write().unwrap_or_else(PoisonError::into_inner) = all;
            }
        }
        sleep(backoff.next()).await;
    }
}
