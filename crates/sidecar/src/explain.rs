//! What a sidecar would do with its subscriptions, from the resources it would start with. Nothing is built or started,
//! and no secret is read.

use outrigger_channel::app::{Bulk, Rule, Subscription};
use outrigger_component::registry::Registry;
use outrigger_resiliency::event::{Event, Level, Observer};
use outrigger_resiliency::load;
use outrigger_resources::component::Component;
use outrigger_resources::configuration::Configuration;
use outrigger_resources::disk::{self, Audience};
use outrigger_resources::resiliency::Resiliency;
use outrigger_resources::subscription;
use outrigger_runtime::components::Identity;
use outrigger_runtime::pubsub::active::Kind;
use outrigger_runtime::pubsub::declared;
use outrigger_runtime::pubsub::plan::{self, Asked, Plan, Sources};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Why there is nothing to explain; a sidecar would not start either.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the Configuration: {0}")]
    Configuration(#[from] disk::ConfigurationError),
    #[error(transparent)]
    Resources(#[from] disk::Error),
    #[error(transparent)]
    Duplicates(#[from] disk::Duplicates),
    #[error("invalid subscription: {0}")]
    Subscription(#[from] declared::Error),
}

/// Which sidecar.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    pub app_id: String,
    /// Empty when there is none.
    pub namespace: String,
    pub resources: Vec<PathBuf>,
    pub configurations: Vec<PathBuf>,
    /// What its metadata lists, if it runs.
    pub running: Vec<Listed>,
}

/// A subscription as `GET /v1.0/metadata` lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Listed {
    #[serde(rename = "pubsubname")]
    pub pubsub: String,
    pub topic: String,
    pub metadata: BTreeMap<String, String>,
    pub rules: Vec<ListedRule>,
    pub dead_letter_topic: String,
    /// `DECLARATIVE`, `PROGRAMMATIC` or `STREAMING`.
    #[serde(rename = "type")]
    pub kind: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ListedRule {
    #[serde(rename = "match")]
    pub expression: String,
    pub path: String,
}

/// All subscriptions, and what a sidecar would warn of when it read them.
#[derive(Debug, Default)]
pub struct Explained {
    pub plans: Vec<Plan>,
    pub warnings: Vec<String>,
}

/// Explains all subscriptions of a sidecar: those of documents first.
///
/// # Errors
/// See [`Error`].
pub fn subscriptions(
    ask: &Ask,
    registry: &Registry,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Explained, Error> {
    let configuration: Configuration = disk::configuration(&ask.configurations, variable)?;
    let documents = disk::read(&ask.resources)?;
    let mut warnings: Vec<String> = documents.warnings.iter().map(ToString::to_string).collect();
    let audience = Audience {
        app_id: &ask.app_id,
        namespace: (!ask.namespace.is_empty()).then_some(ask.namespace.as_str()),
    };
    let components = of_kind::<Component>(&documents, audience, &mut warnings)?;
    let resiliencies = of_kind::<Resiliency>(&documents, audience, &mut warnings)?;
    let subscriptions = of_kind::<subscription::Subscription>(&documents, audience, &mut warnings)?;
    let heard = Arc::new(Heard::default());
    let observer: Arc<dyn Observer> = heard.clone();
    let policies = load::load(&resiliencies, observer);
    warnings.append(&mut heard.0.lock().unwrap_or_else(PoisonError::into_inner));
    let identity = Identity {
        app_id: ask.app_id.clone(),
        namespace: ask.namespace.clone(),
        pod: String::new(),
    };
    let sources = Sources {
        identity: &identity,
        components: &components,
        denied: &configuration.denied_components,
        registry,
        policies: &policies,
    };
    let mut asked = plan::declared(subscriptions, &ask.app_id)?;
    asked.extend(ask.running.iter().filter_map(Listed::asked));
    let mut plans: Vec<Plan> = Vec::new();
    for one in &asked {
        let mut plan = plan::explain(&sources, one);
        if let Some(why) = replaced(&asked, &plans, &plan) {
            plan.lines.push(("but", why));
        }
        plans.push(plan);
    }
    Ok(Explained { plans, warnings })
}

/// COMPAT(pkg/runtime/compstore/subscriptions.go): one subscription per broker and topic.
fn replaced(asked: &[Asked], before: &[Plan], plan: &Plan) -> Option<String> {
    let same = |pubsub: &str, topic: &str| pubsub == plan.pubsub && topic == plan.topic;
    if plan.kind != Kind::Declarative {
        return None;
    }
    if asked.iter().any(|other| {
        other.kind == Kind::Programmatic && same(&other.subscription.pubsub, &other.subscription.topic)
    }) {
        return Some("the app itself subscribes to the same topic, and that is what counts".to_owned());
    }
    let first = before.iter().find(|other| same(&other.pubsub, &other.topic))?;
    let name = first.name.as_deref().unwrap_or_default();
    Some(format!(
        "subscription {name:?} for the same topic comes first, and that is what counts"
    ))
}

fn of_kind<T: disk::Resource>(
    documents: &disk::Documents,
    audience: Audience<'_>,
    warnings: &mut Vec<String>,
) -> Result<Vec<T>, disk::Duplicates> {
    let loaded = documents.load::<T>();
    warnings.extend(loaded.warnings.iter().map(ToString::to_string));
    disk::select(loaded.items, audience)
}

impl Listed {
    /// `None` for what documents say better.
    fn asked(&self) -> Option<Asked> {
        let kind = match self.kind.as_str() {
            "PROGRAMMATIC" => Kind::Programmatic,
            "STREAMING" => Kind::Streaming,
            _ => return None,
        };
        let rule = |rule: &ListedRule| Rule {
            expression: rule.expression.clone(),
            path: rule.path.clone(),
        };
        Some(Asked {
            name: None,
            kind,
            subscription: Subscription {
                pubsub: self.pubsub.clone(),
                topic: self.topic.clone(),
                metadata: self.metadata.clone().into_iter().collect(),
                rules: self.rules.iter().map(rule).collect(),
                dead_letter_topic: self.dead_letter_topic.clone(),
                bulk: Bulk::default(),
            },
            bulk_known: false,
        })
    }
}

/// What is said loudly while Resiliency documents are read.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Observer for Heard {
    fn observe(&self, event: &Event<'_>) {
        let loud = event
            .lines()
            .into_iter()
            .filter(|(level, _)| matches!(level, Level::Warn | Level::Error))
            .map(|(_, text)| text);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(loud);
    }
}
