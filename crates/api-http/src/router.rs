//! From a method and a clean path to an [`Endpoint`] and its parameters, without allocating.
//!
//! INVARIANT: of two routes that match, the one with the literal segment wins, unless it lacks the method: then the
//! segment is a parameter like any other (`GET /v1.0/state/s/bulk` reads the key `bulk`).
//!
//! COMPAT(go-chi): which paths match. What nothing matches goes to service invocation, see the door.

use crate::endpoint::{Endpoint, Version};
use http::Method;

/// A request's place in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route<'p> {
    pub(crate) endpoint: Endpoint,
    pub(crate) version: Version,
    /// Store, broker, component or key, as it stands in the path: not decoded. Empty when the route has none.
    pub(crate) first: &'p str,
    /// Key, secret, topic (which may hold slashes), likewise.
    pub(crate) second: &'p str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found<'p> {
    Route(Route<'p>),
    /// There is such a path, but not for this method.
    OtherMethod,
    Nothing,
}

/// Methods that routes tell apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Get,
    Post,
    Put,
    Delete,
    Other,
}

/// `path` begins with a slash and is clean.
pub(crate) fn find<'p>(method: &Method, path: &'p str) -> Found<'p> {
    use Endpoint as E;

    let Some((version, rest)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
        return Found::Nothing;
    };
    let Some(version) = Version::of(version) else {
        return Found::Nothing;
    };
    let verb = Verb::of(method);
    let (block, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let on = |fits: bool, endpoint, first, second| {
        if fits {
            Found::Route(Route {
                endpoint,
                version,
                first,
                second,
            })
        } else {
            Found::OtherMethod
        }
    };
    let (reads, writes) = (verb == Verb::Get, matches!(verb, Verb::Post | Verb::Put));
    match (block, version) {
        ("state", Version::V1) => match Segments::of(rest) {
            Some(Segments(store, None, ..)) => on(writes, E::SaveState, store, ""),
            Some(Segments(store, Some("bulk"), None, _)) if writes => on(true, E::GetBulkState, store, ""),
            Some(Segments(store, Some("transaction"), None, _)) if writes => {
                on(true, E::ExecuteStateTransaction, store, "")
            }
            Some(Segments(store, Some(key), None, _)) if reads => on(true, E::GetState, store, key),
            Some(Segments(store, Some(key), None, _)) => on(verb == Verb::Delete, E::DeleteState, store, key),
            _ => Found::Nothing,
        },
        ("publish", Version::V1 | Version::Alpha1) => match publish(rest) {
            Some((E::PublishEvent, ..)) if version != Version::V1 => Found::Nothing,
            Some((endpoint, pubsub, topic)) => on(writes, endpoint, pubsub, topic),
            None => Found::Nothing,
        },
        ("secrets", Version::V1) => match Segments::of(rest) {
            Some(Segments(store, Some("bulk"), None, _)) => on(reads, E::GetBulkSecret, store, ""),
            Some(Segments(store, Some(name), None, _)) => on(reads, E::GetSecret, store, name),
            _ => Found::Nothing,
        },
        ("metadata", Version::V1) => match rest {
            "" => on(reads, E::GetMetadata, "", ""),
            key if key.contains('/') => Found::Nothing,
            key => on(verb == Verb::Put, E::PutMetadata, key, ""),
        },
        ("healthz", Version::V1) => match rest {
            "" => on(reads, E::Healthz, "", ""),
            "outbound" => on(reads, E::HealthzOutbound, "", ""),
            _ => Found::Nothing,
        },
        ("shutdown", Version::V1) if rest.is_empty() => on(verb == Verb::Post, E::Shutdown, "", ""),
        ("invoke", Version::V1) => on(true, E::InvokeService, "", ""),
        _ => match Segments::of(rest) {
            Some(segments) => match elsewhere(version, verb, block, segments) {
                Some((fits, endpoint)) => on(fits, endpoint, segments.0, segments.1.unwrap_or_default()),
                None => Found::Nothing,
            },
            None => Found::Nothing,
        },
    }
}

/// Endpoint, broker and topic, which takes the rest of the path.
fn publish(rest: &str) -> Option<(Endpoint, &str, &str)> {
    let (first, second) = rest.split_once('/')?;
    match second.split_once('/') {
        Some((pubsub, topic)) if first == "bulk" => Some((Endpoint::BulkPublishEvent, pubsub, topic)),
        _ => Some((Endpoint::PublishEvent, first, second)),
    }
}

/// Routes of building blocks that this version does not have, and of the state query: whether the method fits, and what
/// it is.
fn elsewhere(version: Version, verb: Verb, block: &str, segments: Segments<'_>) -> Option<(bool, Endpoint)> {
    use Endpoint as E;
    use Verb::{Delete, Get, Other, Post, Put};
    use Version::{Alpha1, Alpha2, Beta1, V1};

    let Segments(_, second, third, fourth) = segments;
    let only = |wanted: &[Verb], endpoint| Some((wanted.contains(&verb), endpoint));
    match (block, version, second, third, fourth) {
        ("state", Alpha1, Some("query"), None, None) => only(&[Post, Put], E::QueryState),
        ("bindings", V1, None, None, None) => only(&[Post, Put], E::InvokeBinding),
        ("configuration", V1 | Alpha1, None, None, None) => only(&[Get], E::GetConfiguration),
        ("configuration", V1 | Alpha1, Some("subscribe"), None, None) => {
            only(&[Get], E::SubscribeConfiguration)
        }
        ("configuration", V1 | Alpha1, Some(_), Some("unsubscribe"), None) => {
            only(&[Get], E::UnsubscribeConfiguration)
        }
        ("lock", Alpha1, None, None, None) => only(&[Post], E::TryLock),
        ("unlock", Alpha1, None, None, None) => only(&[Post], E::Unlock),
        ("crypto", Alpha1, Some("encrypt"), None, None) => only(&[Put], E::Encrypt),
        ("crypto", Alpha1, Some("decrypt"), None, None) => only(&[Put], E::Decrypt),
        ("conversation", Alpha1 | Alpha2, Some("converse"), None, None) => only(&[Post], E::Converse),
        ("jobs", V1 | Alpha1, None, None, None) => match verb {
            Get => only(&[Get], E::GetJob),
            Delete => only(&[Delete], E::DeleteJob),
            _ => only(&[Post], E::ScheduleJob),
        },
        ("actors", V1, Some(_), Some("state"), None) => only(&[Post, Put], E::ExecuteActorStateTransaction),
        ("actors", V1, Some(_), Some("state"), Some(_)) => only(&[Get], E::GetActorState),
        ("actors", V1, Some(_), Some("method"), Some(_)) => only(&[Get, Post, Put, Delete], E::InvokeActor),
        ("actors", V1, Some(_), Some("reminders"), Some(_)) => match verb {
            Get => only(&[Get], E::GetActorReminder),
            Delete => only(&[Delete], E::UnregisterActorReminder),
            Post | Put | Other => only(&[Post, Put], E::RegisterActorReminder),
        },
        ("actors", V1, Some(_), Some("timers"), Some(_)) => match verb {
            Delete => only(&[Delete], E::UnregisterActorTimer),
            _ => only(&[Post, Put], E::RegisterActorTimer),
        },
        ("workflows", V1 | Alpha1 | Beta1, Some(_), None, None) => only(&[Get], E::GetWorkflow),
        ("workflows", V1 | Alpha1 | Beta1, Some(_), Some(action), None) => match action {
            "start" => only(&[Post], E::StartWorkflow),
            "pause" => only(&[Post], E::PauseWorkflow),
            "resume" => only(&[Post], E::ResumeWorkflow),
            "terminate" => only(&[Post], E::TerminateWorkflow),
            "purge" => only(&[Post], E::PurgeWorkflow),
            _ => None,
        },
        ("workflows", V1 | Alpha1 | Beta1, Some(_), Some("raiseEvent"), Some(_)) => {
            only(&[Post], E::RaiseEventWorkflow)
        }
        _ => None,
    }
}

impl Verb {
    fn of(method: &Method) -> Self {
        match *method {
            Method::GET => Self::Get,
            Method::POST => Self::Post,
            Method::PUT => Self::Put,
            Method::DELETE => Self::Delete,
            _ => Self::Other,
        }
    }
}

/// One to four segments.
#[derive(Clone, Copy)]
struct Segments<'p>(&'p str, Option<&'p str>, Option<&'p str>, Option<&'p str>);

impl<'p> Segments<'p> {
    /// `None` for more than four, or none.
    fn of(rest: &'p str) -> Option<Self> {
        let mut segments = rest.split('/');
        let first = segments.next().filter(|first| !first.is_empty())?;
        let this = Self(first, segments.next(), segments.next(), segments.next());
        segments.next().is_none().then_some(this)
    }
}

#[cfg(test)]
mod tests;
