//! A door on a free port, clients, and what is behind the door.

use super::fakes::{Alone, App, Parrot, Vault, echo};
use crate::Filter;
use crate::internal::Internal;
use crate::public::{Blocks, Config, Door, Parts, Shutdown};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use hyper::body::Incoming;
use hyper::service::service_fn;
use outrigger_channel::body::Body;
use outrigger_channel::endpoint::Endpoints;
use outrigger_channel::error::Error;
use outrigger_channel::h2::{self, Pool};
use outrigger_channel::peer::Peers;
use outrigger_channel::wire::{self, Frames};
use outrigger_component::metadata::Metadata as Properties;
use outrigger_component::pubsub::PubSub;
use outrigger_component::resolver::{Instance, Target};
use outrigger_component::setup::Setup;
use outrigger_component::state::StateStore as _;
use outrigger_components_builtin::{pubsub as memory_pubsub, state as memory_state};
use outrigger_daemon::dial::Dial;
use outrigger_daemon::drain::serve::{Listener, Options, Protocol, Socket, serve};
use outrigger_daemon::drain::{self, Trigger, Watch};
use outrigger_daemon::log::Log;
use outrigger_daemon::metrics;
use outrigger_daemon::tasks::{OnExit, Spawner, Tasks};
use outrigger_daemon::trace::{self, Tracer};
use outrigger_proto::dapr::runtime::v1::dapr_client::DaprClient;
use outrigger_resiliency::policies::Policies;
use outrigger_runtime::admission::Admission;
use outrigger_runtime::bindings::{self, Bindings};
use outrigger_runtime::components::snapshot::{
    Binding, Broker, ConfigurationStore, Live, Loaded, LockStore, SecretStore, Snapshot, StateStore,
};
use outrigger_runtime::configuration::{self, Configuration};
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
use outrigger_testkit::stores::{Locks, Settings};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::transport::Channel;

/// Largest message, in bytes.
pub(super) const LIMIT: usize = 64 << 10;

/// What a test asks of.
pub(super) struct Bench {
    pub(super) client: DaprClient<Channel>,
    pub(super) address: String,
    pub(super) pubsub: Arc<Pubsub>,
    /// What is in configuration store `c`.
    pub(super) settings: Settings,
    pub(super) shutdowns: Arc<Mutex<Vec<Shutdown>>>,
    /// The address of the door for other sidecars.
    pub(super) internal: String,
    /// Another sidecar, of the app `front`.
    pub(super) peers: Peers,
    raw: Pool,
    peer: Pool,
    registry: metrics::Registry,
    lines: Lines,
    // Dropping them ends the servers.
    _tasks: Tasks,
    pub(super) drain: Trigger,
}

/// How the door of a test differs from the usual one.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) token: &'static str,
    pub(super) filter: Filter,
    /// Calls at once.
    pub(super) most: Option<usize>,
    /// How long messages may pause.
    pub(super) patience: Option<Duration>,
    /// Sampling rate; `None` turns tracing off.
    pub(super) rate: Option<&'static str>,
}

/// An answer as it came over the wire.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) http: u16,
    pub(super) headers: HeaderMap,
    pub(super) messages: Vec<Bytes>,
    /// Empty when the head was all.
    pub(super) trailers: HeaderMap,
}

impl Answer {
    /// Code and message.
    pub(super) fn status(&self) -> (i32, String) {
        wire::grpc_status(&self.trailers)
            .or_else(|| wire::grpc_status(&self.headers))
            .expect("a call has a status")
    }
}

impl Bench {
    pub(super) async fn new() -> Self {
        Self::with(Plan::default()).await
    }

    pub(super) async fn with(plan: Plan) -> Self {
        let (log, lines) = captured();
        let registry = metrics::Registry::new(metrics::Settings::sidecar("shop")).unwrap();
        let (drain, watch) = drain::channel();
        let tasks = Tasks::new(&log, drain.clone());
        let settings = trace::Settings {
            sampling_rate: plan.rate.map(str::to_owned),
            ..trace::Settings::default()
        };
        let (tracer, _pump) = Tracer::new(&settings, &log).unwrap();

        let app = listen(&tasks, &watch, &log, |_: &Socket| {
            service_fn(async |request| Ok::<_, std::convert::Infallible>(echo(request)))
        })
        .await;
        let settings = Settings::default();
        let live = Live::new(snapshot(&log, &settings).await);
        let policies: Arc<Policies> = Arc::new(outrigger_resiliency::load::load([], Arc::new(())));
        let component_metrics = Arc::new(metrics::Component::new(&registry, ""));
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
        let facts = Facts {
            app_id: "shop".to_owned(),
            version: "1.18.3".to_owned(),
            ..Facts::default()
        };
        let invoke = Arc::new(Invoke::new(invoke::Parts {
            me: Target {
                app_id: "shop".to_owned(),
                namespace: "default".to_owned(),
            },
            app: Some(Arc::new(App {
                proxied: connection(&app, tasks.spawner()),
            })),
            peers: Arc::new(Alone),
            names: Arc::new(Alone),
            endpoints: Arc::new(Endpoints::new([], &tasks.spawner())),
            access: None,
            host_address: "127.0.0.1".to_owned(),
            host_name: "host".to_owned(),
            policies: Arc::clone(&policies),
            body_limit: LIMIT,
            metrics: metrics::Invocation::new(&registry),
            access_metrics: metrics::Access::new(&registry),
        }));
        let internal = Internal::new(
            Arc::clone(&invoke),
            tracer.clone(),
            "shop".to_owned(),
            LIMIT,
            Admission::new(plan.most),
        );
        let shutdowns = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::clone(&shutdowns);
        let state = Arc::new(State::new(
            live.clone(),
            Arc::clone(&policies),
            Arc::clone(&component_metrics),
            pubsub.outbox(),
        ));
        let door = Door::new(
            Config {
                app_id: "shop".to_owned(),
                body_limit: LIMIT,
                body_patience: plan.patience,
                api_token: plan.token.to_owned(),
                filter: plan.filter,
                admission: Admission::new(plan.most),
                api_logging: true,
            },
            Parts {
                metadata: Arc::new(Metadata::new(facts, live.clone(), pubsub.changes())),
                tracer: tracer.clone(),
                metrics: Some(Arc::new(metrics::Grpc::new(&registry))),
                errors: Some(Arc::new(metrics::Errors::new(&registry))),
                log: log.clone(),
            },
            Blocks {
                invoke,
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
                pubsub: Arc::clone(&pubsub),
                configuration: Arc::new(Configuration::new(configuration::Parts {
                    components: live.clone(),
                    app: None,
                    policies: Arc::clone(&policies),
                    metrics: Arc::clone(&component_metrics),
                    log: log.clone(),
                    tasks: tasks.spawner(),
                })),
                lock: Arc::new(Lock::new(live.clone(), Arc::clone(&policies))),
                secrets: Arc::new(Secrets::new(live, policies, component_metrics)),
                shutdown: Arc::new(move |how| asked.lock().unwrap().push(how)),
                drain: drain.clone(),
            },
        );
        let address = listen(&tasks, &watch, &log, move |_: &Socket| door.service()).await;
        let internal = listen(&tasks, &watch, &log, move |_: &Socket| internal.service()).await;
        let client = DaprClient::connect(format!("http://{address}")).await.unwrap();
        let raw = connection(&address, tasks.spawner());
        let peer = connection(&internal, tasks.spawner());
        let me = Target {
            app_id: "front".to_owned(),
            namespace: "default".to_owned(),
        };
        let peers = Peers::new(me, LIMIT, tasks.spawner());
        Self {
            client,
            address,
            pubsub,
            settings,
            shutdowns,
            raw,
            peer,
            peers,
            internal,
            registry,
            lines,
            _tasks: tasks,
            drain,
        }
    }

    /// One call with these fields and this body, framed or not.
    pub(super) async fn send(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> http::Response<h2::Answer> {
        self.try_send(request(path, fields, body.into())).await.unwrap()
    }

    /// Fails when the call breaks before its answer begins.
    pub(super) async fn try_send(&self, request: Request<Body>) -> Result<http::Response<h2::Answer>, Error> {
        in_time(self.raw.send(request)).await
    }

    /// Likewise, and reads the answer to its end.
    pub(super) async fn ask(&self, path: &str, fields: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        in_time(answer(self.send(path, fields, body).await)).await
    }

    /// Likewise, at the door for other sidecars.
    pub(super) async fn ask_internal(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let call = self.peer.send(request(path, fields, body.into()));
        in_time(answer(in_time(call).await.unwrap())).await
    }

    pub(super) fn metrics(&self) -> String {
        self.registry.expose()
    }

    pub(super) fn logged(&self) -> String {
        self.lines.text()
    }
}

fn request(path: &str, fields: &[(&str, &str)], body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().unwrap();
    let headers = request.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    for (name, value) in fields {
        headers.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    request
}

async fn answer(response: http::Response<h2::Answer>) -> Answer {
    let (head, body) = response.into_parts();
    let mut frames = Frames::new(body, usize::MAX);
    let mut messages = Vec::new();
    while let Some(message) = frames.message().await.unwrap() {
        messages.push(message);
    }
    Answer {
        http: head.status.as_u16(),
        headers: head.headers,
        messages,
        trailers: frames.trailers().cloned().unwrap_or_default(),
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), work)
        .await
        .expect("no answer in time")
}

fn connection(address: &str, spawner: Spawner) -> Pool {
    Pool::new(Dial::plain(address.to_owned()), "the test".to_owned(), spawner)
}

/// Serves HTTP/2 on a free port and tells where.
async fn listen<M, S>(tasks: &Tasks, watch: &Watch, log: &Log, service: M) -> String
where
    M: Fn(&Socket) -> S + Clone + Send + 'static,
    S: hyper::service::Service<
            Request<Incoming>,
            Response = http::Response<Body>,
            Error = std::convert::Infallible,
        > + Send
        + 'static,
    M: Sync,
    S::Future: Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (watch, log, spawner) = (watch.clone(), log.clone(), tasks.spawner());
    let options = Options {
        protocol: Protocol::Http2,
        ..Options::default()
    };
    tasks.spawn("server", OnExit::Log, async move {
        serve(Listener::Tcp(listener), service, watch, options, &spawner, &log).await;
    });
    address
}

/// State store `s`, broker `p` with the protected topic `closed`, secret store `v`.
async fn snapshot(log: &Log, settings: &Settings) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let store = memory_state::Store::build(setup(log, memory_state::Config::default()))
        .await
        .unwrap();
    let prefix = Prefix::parse(&Properties::new(), "s", "shop", "").unwrap();
    let features = store.features();
    let store = StateStore {
        name: "s".to_owned(),
        store: Arc::new(store),
        features,
        prefix,
        outbox: None,
        encryption: None,
    };
    snapshot.insert("state.in-memory", "v1", Loaded::State(Arc::new(store)));
    let broker = memory_pubsub::Bus::build(setup(log, memory_pubsub::Config { concurrency: Some(4) }))
        .await
        .unwrap();
    let broker = Broker {
        name: "p".to_owned(),
        features: broker.features(),
        broker: Arc::new(broker),
        scopes: Scopes::parse(&[("protectedTopics", "closed")].into_iter().collect(), "shop"),
        topic_prefix: String::new(),
    };
    snapshot.insert("pubsub.in-memory", "v1", Loaded::Pubsub(Arc::new(broker)));
    let vault = SecretStore {
        name: "v".to_owned(),
        store: Arc::new(Vault),
        scope: None,
    };
    snapshot.insert("secretstores.fake", "v1", Loaded::Secret(Arc::new(vault)));
    let store = ConfigurationStore {
        name: "c".to_owned(),
        store: Arc::new(settings.clone()),
    };
    snapshot.insert(
        "configuration.memory",
        "v1",
        Loaded::Configuration(Arc::new(store)),
    );
    let store = LockStore {
        name: "l".to_owned(),
        store: Arc::new(Locks::default()),
        prefix: LockPrefix::parse(&Properties::new(), "l", "shop").unwrap(),
    };
    snapshot.insert("lock.memory", "v1", Loaded::Lock(Arc::new(store)));
    let binding = Binding {
        name: "b".to_owned(),
        input: None,
        output: Some(Arc::new(Parrot)),
        route: "b".to_owned(),
        declared_input: false,
    };
    snapshot.insert("bindings.fake", "v1", Loaded::Binding(Arc::new(binding)));
    snapshot
}

fn setup<C>(log: &Log, config: C) -> Setup<C> {
    Setup {
        name: "it".to_owned(),
        app_id: "shop".to_owned(),
        namespace: "default".to_owned(),
        config,
        metadata: Properties::new(),
        log: log.clone(),
        instance: Instance {
            app_id: "shop".to_owned(),
            namespace: "default".to_owned(),
            host: "127.0.0.1".to_owned(),
            near_host: "127.0.0.1".to_owned(),
            internal_port: 0,
            http_port: 0,
            grpc_port: 0,
        },
    }
}
