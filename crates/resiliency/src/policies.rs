//! Which policy applies to what is called.
//!
//! A target that a document names gets exactly what the document says. Any other target gets the default policies, each
//! of the three parts by itself, the narrowest name that is defined: for a state store called by the sidecar
//! `DefaultStatestoreComponentOutboundRetryPolicy`, then `DefaultComponentOutboundRetryPolicy`,
//! `DefaultComponentRetryPolicy`, `DefaultRetryPolicy`; for an app `DefaultAppTimeoutPolicy`, then
//! `DefaultTimeoutPolicy`; for an actor type `DefaultActorCircuitBreakerPolicy`, then `DefaultCircuitBreakerPolicy`.
//!
//! Breakers hold state, so they are shared: one per app and endpoint, per actor type or actor, per component (for
//! both directions; the first call decides which policy it follows).

use crate::cache::Cache;
use crate::core::breaker::Settings;
use crate::core::retry::Retry;
use crate::event::Observer;
use crate::policy::{Breaker, Labels, Policy};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Breakers kept for one app that a document names, unless it says otherwise.
pub(crate) const APP_BREAKERS: usize = 100;
/// Breakers kept for one actor type that a document names, unless it says otherwise.
pub(crate) const ACTOR_BREAKERS: usize = 5000;
/// Breakers kept for all apps, and all actor types, that no document names.
/// COMPAT(pkg/resiliency): the reference keeps 100 for each, however many there are.
const DEFAULT_BREAKERS: usize = 10_000;

/// Everything the documents say, ready for lookup.
pub struct Policies {
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) built_in: HashMap<BuiltIn, Retry>,
    pub(crate) apps: HashMap<String, App>,
    pub(crate) actors: HashMap<String, Actor>,
    pub(crate) components: HashMap<String, Component>,
    pub(crate) default_app: Parts,
    pub(crate) default_actor: Parts,
    /// By kind and flow.
    pub(crate) default_components: HashMap<(Kind, Flow), Parts>,
    pub(crate) shared: Shared,
}

/// The parts that apply, resolved from their names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parts {
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Option<Retry>,
    pub(crate) breaker: Option<Template>,
}

/// What a breaker is made from.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    pub(crate) name: String,
    pub(crate) settings: Arc<Settings>,
}

pub(crate) struct App {
    pub(crate) parts: Parts,
    /// By endpoint.
    pub(crate) breakers: Mutex<Cache<Arc<Breaker>>>,
}

pub(crate) struct Actor {
    pub(crate) parts: Parts,
    pub(crate) by_id: bool,
    pub(crate) breakers: Mutex<Cache<Arc<Breaker>>>,
}

#[derive(Debug)]
pub(crate) struct Component {
    pub(crate) inbound: Parts,
    pub(crate) outbound: Parts,
}

/// Breakers of what no document names, and of components.
pub(crate) struct Shared {
    apps: Mutex<Cache<Arc<Breaker>>>,
    actors: Mutex<Cache<Arc<Breaker>>>,
    components: Mutex<Cache<Arc<Breaker>>>,
}

impl Default for Shared {
    fn default() -> Self {
        let cache = || Mutex::new(Cache::new(DEFAULT_BREAKERS));
        Self {
            apps: cache(),
            actors: cache(),
            components: cache(),
        }
    }
}

/// What a component is, as policy names and metric labels spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Binding,
    Configuration,
    Conversation,
    Crypto,
    Lock,
    Pubsub,
    Secretstore,
    Statestore,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Binding,
        Self::Configuration,
        Self::Conversation,
        Self::Crypto,
        Self::Lock,
        Self::Pubsub,
        Self::Secretstore,
        Self::Statestore,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Binding => "Binding",
            Self::Configuration => "Configuration",
            Self::Conversation => "Conversation",
            Self::Crypto => "Crypto",
            Self::Lock => "Lock",
            Self::Pubsub => "Pubsub",
            Self::Secretstore => "Secretstore",
            Self::Statestore => "Statestore",
        }
    }
}

/// Who calls: the sidecar a target, or a component the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flow {
    Inbound,
    Outbound,
}

impl Flow {
    /// As the metric label `flow_direction` names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// Retry policies that exist without any document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BuiltIn {
    /// Calls to other sidecars: 3 retries, 1 s apart.
    ServiceRetries,
    /// Calls to actors on other sidecars: 3 retries, 1 s apart.
    ActorRetries,
    /// Reminder operations. COMPAT(pkg/resiliency/resiliency.go): exponential, but without any retry.
    ActorReminderRetries,
    /// Starting subscriptions: exponential up to 1 s apart, 3 retries within 10 s.
    InitializationRetries,
    /// Actors whose host is not known yet: 5 retries, 1 s apart; cannot be replaced.
    ActorNotFoundRetries,
}

impl BuiltIn {
    pub(crate) const ALL: [Self; 5] = [
        Self::ServiceRetries,
        Self::ActorRetries,
        Self::ActorReminderRetries,
        Self::InitializationRetries,
        Self::ActorNotFoundRetries,
    ];

    /// As documents name it to replace it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServiceRetries => "DaprBuiltInServiceRetries",
            Self::ActorRetries => "DaprBuiltInActorRetries",
            Self::ActorReminderRetries => "DaprBuiltInActorReminderRetries",
            Self::InitializationRetries => "DaprBuiltInInitializationRetries",
            Self::ActorNotFoundRetries => "DaprBuiltInActorNotFoundRetries",
        }
    }
}

/// What a policy runs, as log lines name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    Endpoint { app: &'a str, endpoint: &'a str },
    Actor { kind: &'a str, id: &'a str },
    Component { name: &'a str, flow: Flow },
    BuiltIn(BuiltIn),
    Unnamed,
}

impl fmt::Display for Operation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint { app, endpoint } => write!(f, "endpoint[{app}, {endpoint}]"),
            Self::Actor { kind, id } => write!(f, "actor[{kind}, {id}]"),
            Self::Component {
                name,
                flow: Flow::Inbound,
            } => write!(f, "component[{name}] input"),
            Self::Component {
                name,
                flow: Flow::Outbound,
            } => write!(f, "component[{name}] output"),
            Self::BuiltIn(policy) => f.write_str(policy.as_str()),
            Self::Unnamed => f.write_str("operation"),
        }
    }
}

/// What is called, as the metric label `target` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    App(&'a str),
    Actor(&'a str),
    Component(&'a str, Kind),
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App(app) => write!(f, "app_{app}"),
            Self::Actor(kind) => write!(f, "actor_{kind}"),
            Self::Component(name, kind) => write!(f, "{}_{name}", kind.as_str()),
        }
    }
}

impl Policies {
    /// Calls to an app or HTTP endpoint. `endpoint` tells its breakers apart (`app:method`).
    pub fn app<'p>(&'p self, app: &'p str, endpoint: &'p str) -> Policy<'p> {
        let (parts, breaker) = match self.apps.get(app) {
            Some(target) => {
                let make =
                    |template: &Template| get(&target.breakers, endpoint, || endpoint.to_owned(), template);
                (&target.parts, target.parts.breaker.as_ref().map(make))
            }
            None => {
                // Neither part may contain the byte between them.
                let make = |template: &Template| {
                    let key = format!("{app}\0{endpoint}");
                    get(&self.shared.apps, &key, || endpoint.to_owned(), template)
                };
                (&self.default_app, self.default_app.breaker.as_ref().map(make))
            }
        };
        let operation = Operation::Endpoint { app, endpoint };
        self.policy(operation, parts, breaker, Flow::Outbound, Target::App(app))
    }

    /// Calls to an actor before its lock is taken: retry and breaker, so that waiting for the lock is not limited.
    pub fn actor_before_lock<'p>(&'p self, kind: &'p str, id: &'p str) -> Policy<'p> {
        let (parts, breaker) = match self.actors.get(kind) {
            Some(target) => {
                let make = |template: &Template| {
                    if target.by_id {
                        let key = format!("{kind}-{id}");
                        get(&target.breakers, &key, || key.clone(), template)
                    } else {
                        get(&target.breakers, kind, || kind.to_owned(), template)
                    }
                };
                (&target.parts, target.parts.breaker.as_ref().map(make))
            }
            None => {
                let make = |template: &Template| get(&self.shared.actors, kind, || kind.to_owned(), template);
                (&self.default_actor, self.default_actor.breaker.as_ref().map(make))
            }
        };
        let policy = Policy {
            timeout: None,
            ..self.bare(Operation::Actor { kind, id }, parts, breaker)
        };
        self.labelled(policy, Flow::Outbound, Target::Actor(kind))
    }

    /// Calls to an actor once its lock is held: the timeout.
    pub fn actor_after_lock<'p>(&'p self, kind: &'p str, id: &'p str) -> Policy<'p> {
        let parts = self
            .actors
            .get(kind)
            .map_or(&self.default_actor, |target| &target.parts);
        let policy = Policy {
            retry: None,
            ..self.bare(Operation::Actor { kind, id }, parts, None)
        };
        self.labelled(policy, Flow::Outbound, Target::Actor(kind))
    }

    /// Calls of the sidecar to a component, or (inbound) of a component to the app.
    pub fn component<'p>(&'p self, name: &'p str, kind: Kind, flow: Flow) -> Policy<'p> {
        let operation = Operation::Component { name, flow };
        let parts = match (self.components.get(name), flow) {
            (Some(target), Flow::Inbound) => &target.inbound,
            (Some(target), Flow::Outbound) => &target.outbound,
            (None, flow) => match self.default_components.get(&(kind, flow)) {
                Some(parts) => parts,
                None => return self.bare_none(operation),
            },
        };
        let breaker = parts.breaker.as_ref().map(|template| {
            let title = || format!("{}-{name}", template.name);
            get(&self.shared.components, name, title, template)
        });
        self.policy(operation, parts, breaker, flow, Target::Component(name, kind))
    }

    /// A built-in policy. It has no metrics.
    pub fn built_in(&self, policy: BuiltIn) -> Policy<'_> {
        Policy {
            retry: self.built_in.get(&policy),
            ..self.bare_none(Operation::BuiltIn(policy))
        }
    }

    /// Whether a document names the app; defaults do not count.
    pub fn names_app(&self, app: &str) -> bool {
        self.apps.contains_key(app)
    }

    /// Whether a document names the actor type; defaults do not count.
    pub fn names_actor(&self, kind: &str) -> bool {
        self.actors.contains_key(kind)
    }

    /// Whether a document names the component; defaults do not count.
    pub fn names_component(&self, name: &str) -> bool {
        self.components.contains_key(name)
    }

    fn policy<'p>(
        &'p self,
        operation: Operation<'p>,
        parts: &'p Parts,
        breaker: Option<Arc<Breaker>>,
        flow: Flow,
        target: Target<'p>,
    ) -> Policy<'p> {
        self.labelled(self.bare(operation, parts, breaker), flow, target)
    }

    fn bare<'p>(
        &'p self,
        operation: Operation<'p>,
        parts: &'p Parts,
        breaker: Option<Arc<Breaker>>,
    ) -> Policy<'p> {
        Policy {
            timeout: parts.timeout,
            retry: parts.retry.as_ref(),
            breaker,
            ..self.bare_none(operation)
        }
    }

    fn bare_none<'p>(&'p self, operation: Operation<'p>) -> Policy<'p> {
        Policy {
            operation,
            timeout: None,
            retry: None,
            breaker: None,
            labels: None,
            observer: &*self.observer,
        }
    }

    fn labelled<'p>(&'p self, mut policy: Policy<'p>, flow: Flow, target: Target<'p>) -> Policy<'p> {
        policy.labels = Some(Labels {
            resource: &self.resource,
            namespace: &self.namespace,
            flow,
            target,
        });
        policy.applied();
        policy
    }
}

fn get(
    cache: &Mutex<Cache<Arc<Breaker>>>,
    key: &str,
    title: impl FnOnce() -> String,
    template: &Template,
) -> Arc<Breaker> {
    cache
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get_or_insert(key, || Arc::new(Breaker::new(title(), template.settings.clone())))
}

#[cfg(test)]
mod tests;
