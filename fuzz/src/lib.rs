//! The runtime and the HTTP door in one thread, with components and an app that stay in memory and always answer.
//!
//! INVARIANT: time is paused, so waiting costs nothing: when nobody has anything to do, the next timer is due. An input
//! after which everybody waits for ever is found by [`Bench::run`].

mod fakes;

pub use fakes::Shared;

use fakes::Fake;
use outrigger_api_http::{Blocks, Config, Door, Parts};
use outrigger_channel::endpoint::Endpoints;
use outrigger_component::metadata::Metadata as Properties;
use outrigger_component::resolver::Target;
use outrigger_component::{pubsub, state};
use outrigger_daemon::drain::{self, Trigger};
use outrigger_daemon::log::{self, Log};
use outrigger_daemon::metrics;
use outrigger_daemon::ready::Ready;
use outrigger_daemon::tasks::Tasks;
use outrigger_daemon::trace::{self, Tracer};
use outrigger_resiliency::policies::Policies;
use outrigger_resources::disk::Documents;
use outrigger_runtime::bindings::{self, Bindings};
use outrigger_runtime::components::snapshot::{Broker, Live, Loaded, SecretStore, Snapshot, StateStore};
use outrigger_runtime::configuration::{self, Configuration};
use outrigger_runtime::health::Health;
use outrigger_runtime::invoke::{self, Invoke};
use outrigger_runtime::lock::Lock;
use outrigger_runtime::metadata::{Facts, Metadata};
use outrigger_runtime::pubsub::scopes::Scopes;
use outrigger_runtime::pubsub::{self as pubsub_block, Pubsub};
use outrigger_runtime::secrets::Secrets;
use outrigger_runtime::state::State;
use outrigger_runtime::state::keys::Prefix;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Metrics remember every topic and app they have seen, so no bench is used for ever.
const MOST_RUNS: u32 = 5_000;

/// Broker `p`, store `s`, secret store `v`, app `shop`. The app subscribes to the topics `plain`, `ruled` and `raw`.
pub struct Bench {
    pub shared: Arc<Shared>,
    pub pubsub: Arc<Pubsub>,
    pub state: Arc<State>,
    pub door: Door,
    live: Live,
    runs: u32,
    // Dropping the tasks ends them; they need the runtime for it.
    _tasks: Tasks,
    _drain: Trigger,
    runtime: Runtime,
}

const SUBSCRIPTIONS: &str = r#"
apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata: {name: plain}
spec: {pubsubname: p, topic: plain, routes: {default: /plain}}
---
apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata: {name: raw}
spec: {pubsubname: p, topic: raw, metadata: {rawPayload: "true"}, routes: {default: /raw}}
---
apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata: {name: ruled}
spec:
  pubsubname: p
  topic: ruled
  deadLetterTopic: dead
  routes:
    default: /other
    rules:
      - {match: 'event.type == "a" && event.data.price > 3.0', path: /price}
      - {match: 'has(event.data.name) && event.data.name.matches("^[a-z]+$")', path: /name}
      - {match: 'event.data.items.exists(item, item.startsWith("x")) || size(event.data) > 2', path: /items}
      - {match: 'int(event.data) + 1 == 3', path: /number}
"#;

impl Bench {
    /// Runs the work with this thread's bench.
    pub fn with<T>(work: impl FnOnce(&mut Self) -> T) -> T {
        thread_local! {
            static BENCH: RefCell<Option<Bench>> = const { RefCell::new(None) };
        }
        BENCH.with_borrow_mut(|slot| {
            if slot.as_ref().is_some_and(|bench| bench.runs > MOST_RUNS) {
                *slot = None;
            }
            let bench = slot.get_or_insert_with(Bench::new);
            bench.runs += 1;
            bench.shared.forget();
            work(bench)
        })
    }

    /// Runs a future to its end.
    ///
    /// # Panics
    /// When it does not end: everybody waits for somebody else.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let patience = Duration::from_secs(100_000);
        self.runtime
            .block_on(async { tokio::time::timeout(patience, future).await })
            .expect("nobody has anything left to do, and it has not ended")
    }

    /// From now on store `s` keeps its keys under this prefix.
    pub fn prefix(&self, prefix: Prefix) {
        self.live.replace(snapshot(&self.shared, prefix));
    }

    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let entered = runtime.enter();
        let log = Log::open(log::Config {
            level: log::Level::Debug,
            format: log::Format::Json,
            output: log::Output::Writer(Box::new(std::io::sink())),
            app_id: Some("shop".to_owned()),
            instance: "fuzz".to_owned(),
            version: "edge".to_owned(),
            scope: "fuzz".to_owned(),
        })
        .expect("a log that goes nowhere");
        let registry = metrics::Registry::new(metrics::Settings::sidecar("shop")).expect("no rules");
        let (drain, _watch) = drain::channel();
        let tasks = Tasks::new(&log, drain.clone());
        let settings = trace::Settings {
            sampling_rate: Some("1".to_owned()),
            ..trace::Settings::default()
        };
        let (tracer, _pump) = Tracer::new(&settings, &log).expect("no exporters");
        let shared = Arc::new(Shared::default());
        let prefix = Prefix::parse(&Properties::new(), "s", "shop", "").expect("the default");
        let live = Live::new(snapshot(&shared, prefix));
        let policies: Arc<Policies> = Arc::new(outrigger_resiliency::load::load([], Arc::new(())));
        let components = Arc::new(metrics::Component::new(&registry, ""));
        let ready = Ready::new();
        let declared = Documents::of_text("subscriptions.yaml", SUBSCRIPTIONS).load();
        assert_eq!((declared.items.len(), declared.warnings.len()), (3, 0));
        let pubsub = Arc::new(
            Pubsub::new(pubsub_block::Parts {
                app_id: "shop".to_owned(),
                namespace: "default".to_owned(),
                components: live.clone(),
                app: Some(Arc::new(Fake(Arc::clone(&shared)))),
                declared: declared.items,
                ask_app: false,
                policies: Arc::clone(&policies),
                metrics: Arc::clone(&components),
                tracer: tracer.clone(),
                log: log.clone(),
                tasks: tasks.spawner(),
            })
            .expect("expressions that are right"),
        );
        pubsub.resume();
        let state = Arc::new(State::new(
            live.clone(),
            Arc::clone(&policies),
            Arc::clone(&components),
            pubsub.outbox(),
        ));
        let fake = || Arc::new(Fake(Arc::clone(&shared)));
        let blocks = Blocks {
            invoke: Arc::new(Invoke::new(invoke::Parts {
                me: Target {
                    app_id: "shop".to_owned(),
                    namespace: "default".to_owned(),
                },
                app: Some(fake()),
                peers: fake(),
                names: fake(),
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
            pubsub: Arc::clone(&pubsub),
            configuration: Arc::new(Configuration::new(configuration::Parts {
                components: live.clone(),
                app: Some(fake()),
                policies: Arc::clone(&policies),
                metrics: Arc::clone(&components),
                log: log.clone(),
                tasks: tasks.spawner(),
            })),
            lock: Arc::new(Lock::new(live.clone(), Arc::clone(&policies))),
            bindings: Arc::new(Bindings::new(bindings::Parts {
                components: live.clone(),
                app: None,
                state: Arc::clone(&state),
                policies: Arc::clone(&policies),
                metrics: Arc::clone(&components),
                tracer: tracer.clone(),
                log: log.clone(),
                tasks: tasks.spawner(),
                probe_timeout: std::time::Duration::from_secs(1),
            })),
            secrets: Arc::new(Secrets::new(live.clone(), policies, components)),
            shutdown: Arc::new(|_| {}),
            tasks: tasks.spawner(),
            drain: drain.clone(),
        };
        let facts = Facts {
            app_id: "shop".to_owned(),
            version: "1.18.3".to_owned(),
            ..Facts::default()
        };
        let parts = Parts {
            metadata: Arc::new(Metadata::new(facts, live.clone(), pubsub.changes())),
            health: Arc::new(Health::new("shop".to_owned(), ready.clone(), ready)),
            tracer,
            metrics: Some(Arc::new(
                metrics::Http::new(&registry, &metrics::HttpConfig::default()).expect("no patterns"),
            )),
            errors: Some(Arc::new(metrics::Errors::new(&registry))),
            log,
        };
        let config = Config {
            body_limit: Some(1 << 16),
            allowed_origins: "*".to_owned(),
            h2c: true,
            api_logging: Some(Default::default()),
            ..Config::default()
        };
        let door = Door::new(config, parts, blocks);
        drop(entered);
        Self {
            shared,
            pubsub,
            state,
            door,
            live,
            runs: 0,
            _tasks: tasks,
            _drain: drain,
            runtime,
        }
    }
}

fn snapshot(shared: &Arc<Shared>, prefix: Prefix) -> Snapshot {
    let fake = || Arc::new(Fake(Arc::clone(shared)));
    let mut snapshot = Snapshot::default();
    let store: Arc<dyn state::StateStore> = fake();
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
    let broker: Arc<dyn pubsub::PubSub> = fake();
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
            store: fake(),
            scope: None,
        })),
    );
    snapshot
}
