use super::{BuiltIn, Flow, Kind, Policies};
use crate::core::retry::Backoff;
use crate::load::load;
use crate::policy::Policy;
use outrigger_resources::resiliency::{
    Actor, App, CircuitBreaker, Component, Names, Policies as Named, Resiliency, Retry,
};
use std::sync::Arc;
use std::time::Duration;

fn text(text: &str) -> String {
    text.to_owned()
}

/// Timeouts are numbered, so that a test sees which one was chosen.
fn with(timeouts: &[&str], change: impl FnOnce(&mut Resiliency)) -> Policies {
    let mut document = Resiliency {
        policies: Named {
            timeouts: timeouts
                .iter()
                .enumerate()
                .map(|(index, name)| (text(name), (index + 1).to_string()))
                .collect(),
            ..Named::default()
        },
        ..Resiliency::default()
    };
    change(&mut document);
    load(&[document], Arc::new(()))
}

fn chosen(policy: &Policy<'_>) -> u128 {
    policy.timeout.map_or(0, |timeout| timeout.as_millis())
}

#[test]
fn narrowest_default() {
    let all = [
        "DefaultTimeoutPolicy",
        "DefaultComponentTimeoutPolicy",
        "DefaultComponentOutboundTimeoutPolicy",
        "DefaultStatestoreComponentOutboundTimeoutPolicy",
        "DefaultAppTimeoutPolicy",
        "DefaultActorTimeoutPolicy",
        "DefaultComponentInboundTimeoutPolicy",
    ];
    for (defined, [store, lock, inbound, app, actor]) in [
        (&all[..], [4, 3, 7, 5, 6]),
        (&all[..2], [2, 2, 2, 1, 1]),
        (&all[..1], [1, 1, 1, 1, 1]),
        (&[all[3]], [1, 0, 0, 0, 0]),
        (
            &["DefaultComponentOutboundStatestoreTimeoutPolicy"],
            [0, 0, 0, 0, 0],
        ),
    ] {
        let policies = with(defined, |_| {});
        let component = |kind, flow| chosen(&policies.component("c", kind, flow));
        let found = [
            component(Kind::Statestore, Flow::Outbound),
            component(Kind::Lock, Flow::Outbound),
            component(Kind::Binding, Flow::Inbound),
            chosen(&policies.app("a", "a:m")),
            chosen(&policies.actor_after_lock("t", "1")),
        ];
        assert_eq!(found, [store, lock, inbound, app, actor], "{defined:?}");
    }
}

#[test]
fn a_named_target_gets_no_defaults() {
    let policies = with(&["DefaultTimeoutPolicy", "own"], |document| {
        let targets = &mut document.targets;
        targets.apps.insert(text("a"), App::default());
        targets.actors.insert(text("t"), Actor::default());
        let own = Component {
            outbound: Names {
                timeout: text("own"),
                ..Names::default()
            },
            ..Component::default()
        };
        targets.components.insert(text("c"), own);
    });
    assert!(policies.app("a", "a:m").is_none() && !policies.app("b", "b:m").is_none());
    assert!(policies.actor_after_lock("t", "1").is_none());
    assert_eq!(chosen(&policies.component("c", Kind::Lock, Flow::Outbound)), 2);
    assert!(policies.component("c", Kind::Lock, Flow::Inbound).is_none());
    assert!(policies.names_app("a") && !policies.names_app("b"));
    assert!(policies.names_actor("t") && policies.names_component("c"));
}

#[test]
fn actors_are_split_around_the_lock() {
    let policies = with(&["t"], |document| {
        document.policies.retries.insert(text("r"), Retry::default());
        document
            .policies
            .circuit_breakers
            .insert(text("cb"), CircuitBreaker::default());
        for (kind, scope) in [("by-type", "type"), ("by-id", "id"), ("by-both", "both")] {
            let actor = Actor {
                timeout: text("t"),
                retry: text("r"),
                circuit_breaker: text("cb"),
                circuit_breaker_scope: text(scope),
                ..Actor::default()
            };
            document.targets.actors.insert(text(kind), actor);
        }
    });
    for (kind, shared) in [("by-type", true), ("by-id", false), ("by-both", false)] {
        let before = policies.actor_before_lock(kind, "1");
        assert!(before.timeout.is_none() && before.retry.is_some());
        assert_eq!(before.operation().to_string(), format!("actor[{kind}, 1]"));
        let other = policies.actor_before_lock(kind, "2");
        let same = policies.actor_before_lock(kind, "1");
        let breaker = |policy: &Policy<'_>| Arc::as_ptr(policy.breaker.as_ref().unwrap());
        assert_eq!(breaker(&before), breaker(&same));
        assert_eq!(breaker(&before) == breaker(&other), shared, "{kind}");
        let after = policies.actor_after_lock(kind, "1");
        assert!(after.timeout.is_some() && after.retry.is_none() && after.breaker.is_none());
    }
}

#[test]
fn built_in_policies() {
    let policies = with(&[], |_| {});
    let constant = |seconds| Backoff::Constant(Duration::from_secs(seconds));
    for (policy, expect, retries) in [
        (BuiltIn::ServiceRetries, Some(constant(1)), Some(3)),
        (BuiltIn::ActorRetries, Some(constant(1)), Some(3)),
        (BuiltIn::ActorNotFoundRetries, Some(constant(1)), Some(5)),
        (BuiltIn::ActorReminderRetries, None, Some(0)),
        (BuiltIn::InitializationRetries, None, Some(3)),
    ] {
        let found = policies.built_in(policy);
        let retry = found.retry.unwrap();
        assert_eq!(retry.max_retries, retries);
        assert!(expect.is_none_or(|expect| retry.backoff == expect), "{policy:?}");
        assert_eq!(found.operation().to_string(), policy.as_str());
        assert_eq!(found.has_retries(), retries != Some(0));
    }
}
