//! A [`Pubsub`] between a broker and an app that can be scripted.

pub(super) mod app;
pub(super) mod broker;

use self::app::FakeApp;
use self::broker::FakeBroker;
use crate::components::snapshot::{self, Broker, Live, Loaded, Snapshot};
use crate::fakes::Bench;
use crate::pubsub::outbox;
use crate::pubsub::scopes::Scopes;
use crate::pubsub::{Parts, Pubsub};
use crate::state::State;
use crate::state::encryption::Keys;
use crate::state::keys::Prefix;
use bytes::Bytes;
use outrigger_channel::app::{AppChannel, Rule, Subscription};
use outrigger_component::metadata::Metadata;
use outrigger_component::pubsub::Incoming;
use outrigger_component::state::StateStore;
use outrigger_daemon::drain;
use outrigger_daemon::tasks::Tasks;
use outrigger_daemon::trace::Tracer;
use outrigger_resources::resiliency::Resiliency;
use outrigger_resources::subscription::Subscription as Document;
use std::sync::Arc;

/// Everything a test needs. The broker is `orders`.
pub(super) struct World {
    pub pubsub: Pubsub,
    pub state: State,
    pub broker: Arc<FakeBroker>,
    pub app: Arc<FakeApp>,
    pub bench: Bench,
    /// Owns what runs.
    pub tasks: Tasks,
}

/// What to build a [`World`] from.
#[derive(Default)]
pub(super) struct Plan {
    pub broker: FakeBroker,
    /// Of the component.
    pub metadata: &'static [(&'static str, &'static str)],
    pub topic_prefix: &'static str,
    pub declared: Vec<Document>,
    /// Of a Resiliency document.
    pub policies: serde_json::Value,
    pub do_not_ask: bool,
    /// A state store `things` with an outbox, of the app's prefix.
    pub store: Option<(Arc<dyn StateStore>, outbox::Settings)>,
    /// Of that store.
    pub encryption: Option<Keys>,
    pub no_app: bool,
}

pub(super) fn world(plan: Plan) -> World {
    let bench = Bench::new();
    let broker = Arc::new(plan.broker);
    let app = Arc::new(FakeApp::default());
    let metadata: Metadata = plan.metadata.iter().copied().collect();
    let mut snapshot = Snapshot::default();
    let loaded = Broker {
        name: "orders".to_owned(),
        broker: broker.clone(),
        features: broker.features,
        scopes: Scopes::parse(&metadata, "shop"),
        topic_prefix: plan.topic_prefix.to_owned(),
    };
    snapshot.insert("pubsub.fake", "v1", Loaded::Pubsub(Arc::new(loaded)));
    if let Some((store, settings)) = plan.store {
        let loaded = snapshot::StateStore {
            name: "things".to_owned(),
            features: store.features(),
            store,
            prefix: Prefix::parse(&Metadata::new(), "things", "shop", "").unwrap(),
            outbox: Some(settings),
            encryption: plan.encryption,
        };
        snapshot.insert("state.fake", "v1", Loaded::State(Arc::new(loaded)));
    }
    let document: Option<Resiliency> = (!plan.policies.is_null()).then(|| {
        serde_json::from_value(serde_json::json!({"metadata": {"name": "test"}, "spec": plan.policies}))
            .unwrap()
    });
    let tasks = Tasks::new(&bench.log, drain::channel().0);
    let live = Live::new(snapshot);
    let policies = Arc::new(outrigger_resiliency::load::load(&document, Arc::new(())));
    let metrics = bench.component_metrics();
    let channel: Arc<dyn AppChannel> = app.clone();
    let pubsub = Pubsub::new(Parts {
        app_id: "shop".to_owned(),
        namespace: "ns".to_owned(),
        components: live.clone(),
        app: (!plan.no_app).then_some(channel),
        declared: plan.declared,
        ask_app: !plan.do_not_ask,
        policies: Arc::clone(&policies),
        metrics: Arc::clone(&metrics),
        tracer: Tracer::off(),
        log: bench.log.clone(),
        tasks: tasks.spawner(),
    })
    .unwrap();
    World {
        state: State::new(live, policies, metrics, pubsub.outbox()),
        pubsub,
        broker,
        app,
        bench,
        tasks,
    }
}

/// A subscription of the app to topic `new`.
pub(super) fn subscription(path: &str) -> Subscription {
    Subscription {
        pubsub: "orders".to_owned(),
        topic: "new".to_owned(),
        rules: vec![Rule {
            expression: String::new(),
            path: path.to_owned(),
        }],
        ..Subscription::default()
    }
}

/// A declared subscription to topic `new`, route `/new`.
pub(super) fn document() -> Document {
    Document {
        name: "sub".to_owned(),
        pubsub: "orders".to_owned(),
        topic: "new".to_owned(),
        routes: outrigger_resources::subscription::Routes {
            rules: Vec::new(),
            default: "/new".to_owned(),
        },
        ..Document::default()
    }
}

/// A message as a broker delivers it.
pub(super) fn message(data: &str) -> Incoming {
    Incoming {
        topic: "new".to_owned(),
        data: Bytes::copy_from_slice(data.as_bytes()),
        ..Incoming::default()
    }
}

/// The counters of arrived messages: `outcome/status` and how many.
pub(super) fn counted(world: &World) -> Vec<String> {
    let mut counted: Vec<String> = world
        .bench
        .registry
        .expose()
        .lines()
        .filter_map(|line| line.strip_prefix("dapr_component_pubsub_ingress_count{"))
        .map(|line| {
            let of = |name: &str| {
                line.split(&format!(",{name}=\""))
                    .nth(1)
                    .unwrap()
                    .split('"')
                    .next()
                    .unwrap()
            };
            format!(
                "{}/{}={}",
                of("process_status"),
                of("status"),
                line.rsplit(' ').next().unwrap()
            )
        })
        .collect();
    counted.sort();
    counted
}
