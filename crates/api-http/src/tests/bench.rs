//! A door on a free port, and a client that sends bytes.

use super::fakes::Fake;
use crate::{Blocks, Config, Door, Parts, Shutdown};
use outrigger_channel::endpoint::Endpoints;
use outrigger_component::metadata::Metadata as Properties;
use outrigger_component::resolver::Target;
use outrigger_component::{pubsub, state};
use outrigger_daemon::drain::serve::{Listener, Options, Socket, serve};
use outrigger_daemon::drain::{self, Trigger};
use outrigger_daemon::metrics;
use outrigger_daemon::ready::Ready;
use outrigger_daemon::tasks::{OnExit, Tasks};
use outrigger_daemon::trace::{self, Tracer};
use outrigger_resiliency::policies::Policies;
use outrigger_runtime::bindings::{self, Bindings};
use outrigger_runtime::components::snapshot::{
    Binding, Broker, ConfigurationStore, Live, Loaded, LockStore, SecretStore, Snapshot, StateStore,
};
use outrigger_runtime::configuration::{self, Configuration};
use outrigger_runtime::health::Health;
use outrigger_runtime::invoke::{self, Invoke};
use outrigger_runtime::lock::Lock;
use outrigger_runtime::lock::keys::Prefix as LockPrefix;
use outrigger_runtime::metadata::{Facts, Metadata};
use outrigger_runtime::pubsub::scopes::Scopes;
use outrigger_runtime::pubsub::{self as pubsub_block, Pubsub};
use outrigger_runtime::secrets::Secrets;
use outrigger_runtime::state::State;
use outrigger_runtime::state::keys::Prefix;
use outrigger_testkit::log::{Lines, captured};
use outrigger_testkit::stores::Locks;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a test asks of.
pub(super) struct Bench {
    pub(super) fake: Fake,
    pub(super) address: SocketAddr,
    pub(super) public: SocketAddr,
    pub(super) ready: Ready,
    pub(super) shutdowns: Arc<Mutex<Vec<Shutdown>>>,
    registry: metrics::Registry,
    lines: Lines,
    // Dropping them ends the servers.
    _tasks: Tasks,
    _drain: Trigger,
}

/// An answer as it came over the wire.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    /// `None` when what came is no answer at all.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let text = text
            .strip_prefix("HTTP/1.1 100 Continue\r\n\r\n")
            .unwrap_or(&text);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head
            .strip_prefix("HTTP/1.1 ")
            .or(head.strip_prefix("HTTP/1.0 "))?
            .get(..3)?
            .parse()
            .ok()?;
        Some(Self {
            status,
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        })
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Bench {
    pub(super) async fn new(config: Config) -> Self {
        Self::tracing(config, None).await
    }

    /// `rate` is the sampling rate; `None` turns tracing off.
    pub(super) async fn tracing(config: Config, rate: Option<&str>) -> Self {
        let (log, lines) = captured();
        let registry = metrics::Registry::new(metrics::Settings::sidecar("shop")).unwrap();
        let (drain, watch) = drain::channel();
        let tasks = Tasks::new(&log, drain.clone());
        let settings = trace::Settings {
            sampling_rate: rate.map(str::to_owned),
            ..trace::Settings::default()
        };
        let (tracer, _pump) = Tracer::new(&settings, &log).unwrap();

        let fake = Fake::default();
        let live = Live::new(snapshot(&fake));
        let policies: Arc<Policies> = Arc::new(outrigger_resiliency::load::load([], Arc::new(())));
        let component_metrics = Arc::new(metrics::Component::new(&registry, ""));
        let ready = Ready::new();
        let pubsub = Arc::new(
            Pubsub::new(pubsub_block::Parts {
                app_id: "shop".to_owned(),
                namespace: "default".to_owned(),
                components: live.clone(),
                app: None,
                declared: Vec::new(),
                ask_app: false,
                policies: Arc::clone(&policies),
                metrics: Arc::clone(&component_metrics),
                tracer: tracer.clone(),
                log: log.clone(),
                tasks: tasks.spawner(),
            })
            .unwrap(),
        );
        let subscriptions = pubsub.changes();
        let facts = Facts {
            app_id: "shop".to_owned(),
            version: "1.18.3".to_owned(),
            ..Facts::default()
        };
        let http = Arc::new(metrics::Http::new(&registry, &metrics::HttpConfig::default()).unwrap());
        let parts = || Parts {
            metadata: Arc::new(Metadata::new(facts.clone(), live.clone(), subscriptions.clone())),
            health: Arc::new(Health::new("shop".to_owned(), ready.clone(), ready.clone())),
            tracer: tracer.clone(),
            metrics: Some(Arc::clone(&http)),
            errors: Some(Arc::new(metrics::Errors::new(
                &metrics::Registry::new(metrics::Settings::sidecar("x")).unwrap(),
            ))),
            log: log.clone(),
        };
        let errors = Some(Arc::new(metrics::Errors::new(&registry)));
        let shutdowns = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::clone(&shutdowns);
        let state = Arc::new(State::new(
            live.clone(),
            Arc::clone(&policies),
            Arc::clone(&component_metrics),
            pubsub.outbox(),
        ));
        let blocks = Blocks {
            invoke: Arc::new(Invoke::new(invoke::Parts {
                me: Target {
                    app_id: "shop".to_owned(),
                    namespace: "default".to_owned(),
                },
                app: Some(Arc::new(fake.clone())),
                peers: Arc::new(fake.clone()),
                names: Arc::new(fake.clone()),
                endpoints: Arc::new(Endpoints::new([], &tasks.spawner())),
                access: None,
                host_address: "127.0.0.1".to_owned(),
                host_name: "host".to_owned(),
                policies: Arc::clone(&policies),
                body_limit: 1 << 20,
                metrics: metrics::Invocation::new(&registry),
                access_metrics: metrics::Access::new(&registry),
            })),
            state: Arc::clone(&state),
            bindings: Arc::new(Bindings::new(bindings::Parts {
                components: live.clone(),
                app: None,
                state,
                policies: Arc::clone(&policies),
                metrics: Arc::clone(&component_metrics),
                tracer: tracer.clone(),
                log: log.clone(),
                tasks: tasks.spawner(),
                probe_timeout: std::time::Duration::from_secs(1),
            })),
            pubsub,
            configuration: Arc::new(Configuration::new(configuration::Parts {
                components: live.clone(),
                app: Some(Arc::new(fake.clone())),
                policies: Arc::clone(&policies),
                metrics: Arc::clone(&component_metrics),
                log: log.clone(),
                tasks: tasks.spawner(),
            })),
            lock: Arc::new(Lock::new(live.clone(), Arc::clone(&policies))),
            secrets: Arc::new(Secrets::new(live.clone(), policies, component_metrics)),
            shutdown: Arc::new(move |how| asked.lock().unwrap().push(how)),
            tasks: tasks.spawner(),
            drain: drain.clone(),
        };
        let door = Door::new(config, Parts { errors, ..parts() }, blocks);
        let mut addresses = Vec::new();
        for door in [door, Door::public(parts())] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            let (watch, log, spawner) = (watch.clone(), log.clone(), tasks.spawner());
            tasks.spawn("server", OnExit::Log, async move {
                let service = move |io: &Socket| match io {
                    Socket::Tcp(stream) => door.service(stream.peer_addr().ok()),
                    Socket::Unix(_) => door.service(None),
                };
                serve(
                    Listener::Tcp(listener),
                    service,
                    watch,
                    Options::default(),
                    &spawner,
                    &log,
                )
                .await;
            });
        }
        let (address, public) = (addresses[0], addresses[1]);
        Self {
            fake,
            address,
            public,
            ready,
            shutdowns,
            registry,
            lines,
            _tasks: tasks,
            _drain: drain,
        }
    }

    /// Sends these bytes and reads until the server closes; `None` when it closes without an answer.
    pub(super) async fn raw(&self, bytes: impl AsRef<[u8]>) -> Option<Answer> {
        exchange(self.address, bytes.as_ref(), false).await
    }

    /// Likewise, and says that nothing more will come.
    pub(super) async fn raw_and_end(&self, bytes: impl AsRef<[u8]>) -> Option<Answer> {
        exchange(self.address, bytes.as_ref(), true).await
    }

    pub(super) async fn raw_at(&self, address: SocketAddr, bytes: impl AsRef<[u8]>) -> Option<Answer> {
        exchange(address, bytes.as_ref(), true).await
    }

    /// One request: `GET /path`, header lines, body.
    pub(super) async fn ask(&self, line: &str, headers: &[&str], body: &str) -> Answer {
        self.ask_at(self.address, line, headers, body).await
    }

    pub(super) async fn ask_at(
        &self,
        address: SocketAddr,
        line: &str,
        headers: &[&str],
        body: &str,
    ) -> Answer {
        let headers: String = headers.iter().flat_map(|line| [line, "\r\n"]).collect();
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("content-length: {}\r\n", body.len())
        };
        let request =
            format!("{line} HTTP/1.1\r\nhost: door\r\nconnection: close\r\n{headers}{length}\r\n{body}");
        exchange(address, request.as_bytes(), false)
            .await
            .unwrap_or_else(|| panic!("{line}: no answer"))
    }

    pub(super) fn metrics(&self) -> String {
        self.registry.expose()
    }

    pub(super) fn logged(&self) -> String {
        self.lines.text()
    }
}

async fn exchange(address: SocketAddr, bytes: &[u8], end: bool) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    let talk = async {
        // A server that refuses early may close before everything is written.
        if stream.write_all(bytes).await.is_ok() && end {
            stream.shutdown().await.ok();
        }
        stream.read_to_end(&mut answer).await.ok();
    };
    tokio::time::timeout(Duration::from_secs(10), talk)
        .await
        .expect("the server neither answers nor closes");
    Answer::parse(&answer)
}

fn snapshot(fake: &Fake) -> Snapshot {
    let properties = Properties::new();
    let mut snapshot = Snapshot::default();
    let store: Arc<dyn state::StateStore> = Arc::new(fake.clone());
    let prefix = Prefix::parse(&properties, "s", "shop", "").unwrap();
    let features = store.features();
    snapshot.insert(
        "state.fake",
        "v1",
        Loaded::State(Arc::new(StateStore {
            name: "s".to_owned(),
            store,
            features,
            prefix,
            outbox: None,
            encryption: None,
        })),
    );
    let broker: Arc<dyn pubsub::PubSub> = Arc::new(fake.clone());
    snapshot.insert(
        "pubsub.fake",
        "v1",
        Loaded::Pubsub(Arc::new(Broker {
            name: "p".to_owned(),
            features: broker.features(),
            broker,
            scopes: Scopes::parse(&[("protectedTopics", "closed")].into_iter().collect(), "shop"),
            topic_prefix: String::new(),
        })),
    );
    snapshot.insert(
        "secretstores.fake",
        "v1",
        Loaded::Secret(Arc::new(SecretStore {
            name: "v".to_owned(),
            store: Arc::new(fake.clone()),
            scope: None,
        })),
    );
    let store = ConfigurationStore {
        name: "c".to_owned(),
        store: Arc::new(fake.settings.clone()),
    };
    snapshot.insert(
        "configuration.memory",
        "v1",
        Loaded::Configuration(Arc::new(store)),
    );
    let store = LockStore {
        name: "l".to_owned(),
        store: Arc::new(Locks::default()),
        prefix: LockPrefix::parse(&properties, "l", "shop").unwrap(),
    };
    snapshot.insert("lock.memory", "v1", Loaded::Lock(Arc::new(store)));
    snapshot.insert(
        "bindings.fake",
        "v1",
        Loaded::Binding(Arc::new(Binding {
            name: "b".to_owned(),
            input: None,
            output: Some(Arc::new(fake.clone())),
            route: "b".to_owned(),
            declared_input: false,
        })),
    );
    snapshot
}
