//! From Resiliency documents to [`Policies`].
//!
//! Documents are read in order; what a later one defines under the same name replaces the earlier. A document with an
//! error is reported and skipped whole. Targets may use policies of any document.

use crate::cache::Cache;
use crate::core::breaker::Settings;
use crate::core::retry::{self, Backoff, Matching, Retry};
use crate::core::trip::{self, Trip};
use crate::event::{Event, Observer};
use crate::policies::{
    ACTOR_BREAKERS, APP_BREAKERS, Actor, App, BuiltIn, Component, Flow, Kind, Parts, Policies, Shared,
    Template,
};
use outrigger_resources::go;
use outrigger_resources::resiliency as documents;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Fewest retries that a replaced built-in policy may have.
const MIN_RETRIES: u64 = 3;

/// What is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("timeout {name:?}: {source}; write for example 500 (milliseconds), 10s or 1m30s")]
    Timeout { name: String, source: go::Error },
    #[error("{policy} {name:?}: {field}: {source}; write for example 500 (milliseconds), 10s or 1m30s")]
    Duration {
        policy: &'static str,
        name: String,
        field: &'static str,
        source: go::Error,
    },
    #[error("retry {name:?}: unexpected back off policy type: {policy}; write constant or exponential")]
    Backoff { name: String, policy: String },
    #[error("retry {name:?}: {source}")]
    Matching { name: String, source: retry::Error },
    #[error("circuit breaker {name:?}: {source}")]
    Trip { name: String, source: trip::Error },
    #[error("circuit breaker {name:?}: maxRequests must be from 0 to 4294967295")]
    MaxRequests { name: String },
    #[error("target {target:?}: circuitBreakerCacheSize must be positive, or 0 for the default")]
    CacheSize { target: String },
    /// Text of the reference.
    #[error("actor circuit breakers must include scope")]
    NoScope,
    #[error("unknown circuit breaker scope {0:?}; write type, id or both")]
    Scope(String),
}

/// Builds the lookup. What happens while loading goes to the observer, as does everything that happens later.
pub fn load<'d>(
    documents: impl IntoIterator<Item = &'d documents::Resiliency>,
    observer: Arc<dyn Observer>,
) -> Policies {
    let mut draft = Draft::default();
    for document in documents {
        let resource = document.name.as_str();
        observer.observe(&Event::Loading { resource });
        document.name.clone_into(&mut draft.resource);
        document.namespace.clone_into(&mut draft.namespace);
        match Draft::read(document, &*observer) {
            Ok(read) => {
                draft.overlay(read);
                observer.observe(&Event::Loaded {
                    resource,
                    namespace: &document.namespace,
                });
            }
            Err(error) => observer.observe(&Event::Unreadable {
                resource,
                error: &error,
            }),
        }
    }
    draft.finish(observer)
}

/// Policies and targets by name, before the names are resolved.
#[derive(Default)]
struct Draft {
    resource: String,
    namespace: String,
    timeouts: BTreeMap<String, Option<Duration>>,
    retries: BTreeMap<String, Retry>,
    breakers: BTreeMap<String, Arc<Settings>>,
    apps: BTreeMap<String, (documents::Names, usize)>,
    actors: BTreeMap<String, (documents::Names, bool, usize)>,
    components: BTreeMap<String, documents::Component>,
}

impl Draft {
    fn read(document: &documents::Resiliency, observer: &dyn Observer) -> Result<Self, Error> {
        let mut draft = Self::default();
        let policies = &document.policies;
        for (name, text) in &policies.timeouts {
            let timeout = duration(text).map_err(|source| Error::Timeout {
                name: name.clone(),
                source,
            })?;
            draft.timeouts.insert(name.clone(), timeout);
        }
        for (name, policy) in &policies.retries {
            let mut retry = read_retry(name, policy)?;
            if name == BuiltIn::ActorNotFoundRetries.as_str() {
                observer.observe(&Event::Protected { policy: name });
                continue;
            }
            // COMPAT(pkg/resiliency/resiliency.go): without end counts as too few.
            let too_few = retry.max_retries.is_none_or(|most| most < MIN_RETRIES);
            if too_few && BuiltIn::ALL.iter().any(|policy| policy.as_str() == name) {
                observer.observe(&Event::Raised { policy: name });
                retry.max_retries = Some(MIN_RETRIES);
            }
            draft.retries.insert(name.clone(), retry);
        }
        for (name, policy) in &policies.circuit_breakers {
            draft
                .breakers
                .insert(name.clone(), Arc::new(read_breaker(name, policy)?));
        }
        draft.read_targets(&document.targets)?;
        Ok(draft)
    }

    fn read_targets(&mut self, targets: &documents::Targets) -> Result<(), Error> {
        for (name, app) in &targets.apps {
            let names = documents::Names {
                timeout: app.timeout.clone(),
                retry: app.retry.clone(),
                circuit_breaker: app.circuit_breaker.clone(),
            };
            let size = cache_size(name, app.circuit_breaker_cache_size, APP_BREAKERS)?;
            self.apps.insert(name.clone(), (names, size));
        }
        for (name, actor) in &targets.actors {
            let by_id = match actor.circuit_breaker_scope.as_str() {
                _ if actor.circuit_breaker.is_empty() => false,
                "" => return Err(Error::NoScope),
                "type" => false,
                "id" | "both" => true,
                scope => return Err(Error::Scope(scope.to_owned())),
            };
            let names = documents::Names {
                timeout: actor.timeout.clone(),
                retry: actor.retry.clone(),
                circuit_breaker: actor.circuit_breaker.clone(),
            };
            let size = cache_size(name, actor.circuit_breaker_cache_size, ACTOR_BREAKERS)?;
            self.actors.insert(name.clone(), (names, by_id, size));
        }
        self.components.clone_from(&targets.components);
        Ok(())
    }

    fn overlay(&mut self, over: Self) {
        self.timeouts.extend(over.timeouts);
        self.retries.extend(over.retries);
        self.breakers.extend(over.breakers);
        self.apps.extend(over.apps);
        self.actors.extend(over.actors);
        self.components.extend(over.components);
    }

    fn finish(self, observer: Arc<dyn Observer>) -> Policies {
        let parts = |target: &str, names: &documents::Names| self.parts(target, names, &*observer);
        let apps = self.apps.iter().map(|(name, (names, size))| {
            let app = App {
                parts: parts(name, names),
                breakers: Mutex::new(Cache::new(*size)),
            };
            (name.clone(), app)
        });
        let apps = apps.collect();
        let actors = self.actors.iter().map(|(name, (names, by_id, size))| {
            let actor = Actor {
                parts: parts(name, names),
                by_id: *by_id,
                breakers: Mutex::new(Cache::new(*size)),
            };
            (name.clone(), actor)
        });
        let actors = actors.collect();
        let components = self.components.iter().map(|(name, target)| {
            let component = Component {
                inbound: parts(name, &target.inbound),
                outbound: parts(name, &target.outbound),
            };
            (name.clone(), component)
        });
        let components = components.collect();
        let mut default_components = HashMap::new();
        for kind in Kind::ALL {
            for (flow, word) in [(Flow::Inbound, "Inbound"), (Flow::Outbound, "Outbound")] {
                let narrow = format!("{}Component{word}", kind.as_str());
                let wide = format!("Component{word}");
                let parts = self.defaults(&[&narrow, &wide, "Component", ""]);
                if !parts.is_empty() {
                    default_components.insert((kind, flow), parts);
                }
            }
        }
        let built_in = BuiltIn::ALL.into_iter().map(|policy| {
            let own = self.retries.get(policy.as_str()).cloned();
            (policy, own.unwrap_or_else(|| built_in(policy)))
        });
        Policies {
            built_in: built_in.collect(),
            apps,
            actors,
            components,
            default_app: self.defaults(&["App", ""]),
            default_actor: self.defaults(&["Actor", ""]),
            default_components,
            shared: Shared::default(),
            resource: self.resource,
            namespace: self.namespace,
            observer,
        }
    }

    /// The narrowest defaults; `words` go from narrow to wide.
    fn defaults(&self, words: &[&str]) -> Parts {
        fn first<T: Clone>(
            words: &[&str],
            part: &str,
            policies: &BTreeMap<String, T>,
        ) -> Option<(String, T)> {
            words.iter().find_map(|word| {
                let name = format!("Default{word}{part}Policy");
                let policy = policies.get(&name)?.clone();
                Some((name, policy))
            })
        }
        Parts {
            timeout: first(words, "Timeout", &self.timeouts).and_then(|(_, timeout)| timeout),
            retry: first(words, "Retry", &self.retries).map(|(_, retry)| retry),
            breaker: first(words, "CircuitBreaker", &self.breakers)
                .map(|(name, settings)| Template { name, settings }),
        }
    }

    /// Resolves the names a target uses; a target may use built-in retry policies too.
    fn parts(&self, target: &str, names: &documents::Names, observer: &dyn Observer) -> Parts {
        let known = |name: &str, found: bool| {
            if !found && !name.is_empty() {
                observer.observe(&Event::Dangling { target, policy: name });
            }
        };
        let timeout = self.timeouts.get(&names.timeout);
        known(&names.timeout, timeout.is_some());
        let retry = self.retries.get(&names.retry).cloned().or_else(|| {
            let policy = BuiltIn::ALL
                .into_iter()
                .find(|policy| policy.as_str() == names.retry)?;
            Some(built_in(policy))
        });
        known(&names.retry, retry.is_some());
        let breaker = self.breakers.get(&names.circuit_breaker);
        known(&names.circuit_breaker, breaker.is_some());
        Parts {
            timeout: timeout.copied().flatten(),
            retry,
            breaker: breaker.map(|settings| Template {
                name: names.circuit_breaker.clone(),
                settings: settings.clone(),
            }),
        }
    }
}

impl Parts {
    fn is_empty(&self) -> bool {
        self.timeout.is_none() && self.retry.is_none() && self.breaker.is_none()
    }
}

fn read_retry(name: &str, policy: &documents::Retry) -> Result<Retry, Error> {
    let duration = |field, text: &str, default| duration_or("retry", name, field, text, default);
    let pause = duration("duration", &policy.duration, retry::CONSTANT)?;
    let max_interval = duration("maxInterval", &policy.max_interval, retry::MAX_INTERVAL)?;
    let backoff = match policy.policy.to_lowercase().as_str() {
        "" | "constant" => Backoff::Constant(pause),
        "exponential" => Backoff::Exponential {
            max_interval,
            max_elapsed: Some(retry::MAX_ELAPSED),
        },
        _ => {
            return Err(Error::Backoff {
                name: name.to_owned(),
                policy: policy.policy.clone(),
            });
        }
    };
    let matching = policy.matching.clone().unwrap_or_default();
    Ok(Retry {
        backoff,
        // Negative: without end.
        max_retries: policy.max_retries.and_then(|most| u64::try_from(most).ok()),
        matching: Matching::parse(&matching.http, &matching.grpc).map_err(|source| Error::Matching {
            name: name.to_owned(),
            source,
        })?,
    })
}

fn read_breaker(name: &str, policy: &documents::CircuitBreaker) -> Result<Settings, Error> {
    let duration = |field, text: &str| duration_or("circuit breaker", name, field, text, Duration::ZERO);
    Ok(Settings {
        max_requests: u32::try_from(policy.max_requests).map_err(|_| Error::MaxRequests {
            name: name.to_owned(),
        })?,
        interval: duration("interval", &policy.interval)?,
        timeout: duration("timeout", &policy.timeout)?,
        trip: Trip::compile(&policy.trip).map_err(|source| Error::Trip {
            name: name.to_owned(),
            source,
        })?,
    })
}

fn duration_or(
    policy: &'static str,
    name: &str,
    field: &'static str,
    text: &str,
    default: Duration,
) -> Result<Duration, Error> {
    if text.is_empty() {
        return Ok(default);
    }
    match duration(text) {
        Ok(duration) => Ok(duration.unwrap_or_default()),
        Err(source) => Err(Error::Duration {
            policy,
            name: name.to_owned(),
            field,
            source,
        }),
    }
}

/// Go syntax, or a whole number of milliseconds; zero and less are `None`.
fn duration(text: &str) -> Result<Option<Duration>, go::Error> {
    let duration = match text.parse::<i64>() {
        Ok(milliseconds) => u64::try_from(milliseconds).map(Duration::from_millis),
        Err(_) => u64::try_from(go::duration::parse(text)?).map(Duration::from_nanos),
    };
    Ok(duration.ok().filter(|duration| !duration.is_zero()))
}

fn cache_size(target: &str, size: i64, default: usize) -> Result<usize, Error> {
    match usize::try_from(size) {
        Ok(0) => Ok(default),
        Ok(size) => Ok(size),
        Err(_) => Err(Error::CacheSize {
            target: target.to_owned(),
        }),
    }
}

fn built_in(policy: BuiltIn) -> Retry {
    let constant = |max_retries| Retry {
        backoff: Backoff::Constant(Duration::from_secs(1)),
        max_retries: Some(max_retries),
        matching: Matching::default(),
    };
    let exponential = |max_interval, max_elapsed, max_retries| Retry {
        backoff: Backoff::Exponential {
            max_interval,
            max_elapsed: Some(max_elapsed),
        },
        max_retries: Some(max_retries),
        matching: Matching::default(),
    };
    match policy {
        BuiltIn::ServiceRetries | BuiltIn::ActorRetries => constant(3),
        BuiltIn::ActorNotFoundRetries => constant(5),
        BuiltIn::ActorReminderRetries => exponential(retry::MAX_INTERVAL, retry::MAX_ELAPSED, 0),
        BuiltIn::InitializationRetries => exponential(Duration::from_secs(1), Duration::from_secs(10), 3),
    }
}

#[cfg(test)]
mod tests;
