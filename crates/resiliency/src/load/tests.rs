use super::load;
use crate::core::retry::Backoff;
use crate::event::{Event, Level, Observer};
use crate::policies::{BuiltIn, Flow, Kind};
use outrigger_resources::disk::Documents;
use outrigger_resources::resiliency::Resiliency;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Default)]
struct Lines(Mutex<Vec<(Level, String)>>);

impl Observer for Lines {
    fn observe(&self, event: &Event<'_>) {
        let mut lines = self.0.lock().unwrap();
        match event {
            Event::Loaded { resource, .. } => lines.push((Level::Debug, format!("loaded {resource}"))),
            event => lines.extend(event.lines()),
        }
    }
}

fn documents(specs: &[(&str, &str)]) -> Vec<Resiliency> {
    specs
        .iter()
        .flat_map(|(name, spec)| {
            let text = format!(
                "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata: {{name: {name}}}\nspec: {spec}\n"
            );
            let loaded = Documents::of_text("r.yaml", &text).load::<Resiliency>();
            assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
            loaded.items
        })
        .collect()
}

#[test]
fn broken_documents_are_reported_and_skipped_whole() {
    for (spec, expect) in [
        (
            "{policies: {timeouts: {t: soon}}}",
            "timeout \"t\": time: invalid duration \"soon\"; write for example 500 (milliseconds), 10s or 1m30s",
        ),
        (
            "{policies: {retries: {r: {duration: 1x}}}}",
            "retry \"r\": duration: time: unknown unit \"x\" in duration \"1x\"; write for example 500 (milliseconds), 10s or 1m30s",
        ),
        (
            "{policies: {retries: {r: {policy: linear}}}}",
            "retry \"r\": unexpected back off policy type: linear; write constant or exponential",
        ),
        (
            "{policies: {retries: {r: {matching: {gRPCStatusCodes: 1-99}}}}}",
            "retry \"r\": status codes \"1-99\" are not understood; write codes from 0 to 16 and ranges, for example 1,4,13-15",
        ),
        (
            "{policies: {circuitBreakers: {c: {maxRequests: -1}}}}",
            "circuit breaker \"c\": maxRequests must be from 0 to 4294967295",
        ),
        (
            "{targets: {apps: {a: {circuitBreakerCacheSize: -1}}}}",
            "target \"a\": circuitBreakerCacheSize must be positive, or 0 for the default",
        ),
        (
            "{targets: {actors: {a: {circuitBreaker: c}}}}",
            "actor circuit breakers must include scope",
        ),
        (
            "{targets: {actors: {a: {circuitBreaker: c, circuitBreakerScope: all}}}}",
            "unknown circuit breaker scope \"all\"; write type, id or both",
        ),
    ] {
        let good = "{policies: {timeouts: {DefaultTimeoutPolicy: 7}}}";
        let lines = Arc::new(Lines::default());
        let policies = load(&documents(&[("good", good), ("bad", spec)]), lines.clone());
        let lines = lines.0.lock().unwrap().clone();
        let texts: Vec<_> = lines.iter().map(|(_, text)| text.as_str()).collect();
        let refused = format!("Could not read resiliency policy bad: {expect}");
        assert_eq!(
            texts,
            [
                "Loading Resiliency configuration: good",
                "loaded good",
                "Loading Resiliency configuration: bad",
                refused.as_str()
            ]
        );
        assert_eq!(lines[3].0, Level::Error);
        let policy = policies.app("a", "a:m");
        assert_eq!(policy.timeout, Some(Duration::from_millis(7)), "{spec}");
    }
    let lines = Arc::new(Lines::default());
    load(
        &documents(&[("bad", "{policies: {circuitBreakers: {c: {trip: '1 +'}}}}")]),
        lines.clone(),
    );
    let lines = lines.0.lock().unwrap().clone();
    assert!(
        lines[1].1.contains("trip expression \"1 +\" is not valid"),
        "{lines:?}"
    );
}

#[test]
fn values() {
    let retries = |spec: &str| {
        let spec = format!("{{policies: {{retries: {{DefaultRetryPolicy: {spec}}}}}}}");
        let policies = load(&documents(&[("r", &spec)]), Arc::new(()));
        let retry = policies.app("a", "a").retry.cloned().unwrap();
        (retry.backoff, retry.max_retries)
    };
    let constant = |milliseconds| Backoff::Constant(Duration::from_millis(milliseconds));
    let exponential = |seconds| Backoff::Exponential {
        max_interval: Duration::from_secs(seconds),
        max_elapsed: Some(Duration::from_secs(900)),
    };
    for (spec, backoff, most) in [
        ("{}", constant(5000), None),
        (
            "{policy: Constant, duration: 250, maxRetries: 0}",
            constant(250),
            Some(0),
        ),
        ("{duration: 1m, maxRetries: -1}", constant(60_000), None),
        ("{duration: 0, maxRetries: 2}", constant(0), Some(2)),
        ("{policy: exponential}", exponential(60), None),
        (
            "{policy: exponential, maxInterval: 15s, duration: 9s, maxRetries: 4}",
            exponential(15),
            Some(4),
        ),
    ] {
        assert_eq!(retries(spec), (backoff, most), "{spec}");
    }
}

#[test]
fn built_in_policies_can_be_replaced_within_limits() {
    let lines = Arc::new(Lines::default());
    let policies = load(
        &documents(&[(
            "r",
            "{policies: {retries: {DaprBuiltInServiceRetries: {duration: 1ms, maxRetries: 1}, DaprBuiltInActorRetries: {}, DaprBuiltInInitializationRetries: {maxRetries: 9}, DaprBuiltInActorNotFoundRetries: {maxRetries: 99}}}}",
        )]),
        lines.clone(),
    );
    for (policy, expect) in [
        (BuiltIn::ServiceRetries, 3),
        (BuiltIn::ActorRetries, 3),
        (BuiltIn::InitializationRetries, 9),
        (BuiltIn::ActorNotFoundRetries, 5),
    ] {
        assert_eq!(
            policies.built_in(policy).retry.unwrap().max_retries,
            Some(expect),
            "{policy:?}"
        );
    }
    let warnings: Vec<_> = lines
        .0
        .lock()
        .unwrap()
        .iter()
        .filter(|line| line.0 == Level::Warn)
        .cloned()
        .collect();
    let texts: Vec<_> = warnings.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "Attempted to override protected policy DaprBuiltInActorNotFoundRetries which is not allowed. Ignoring provided policy and using default.",
            "Attempted override of DaprBuiltInActorRetries did not meet minimum retry count, resetting to 3.",
            "Attempted override of DaprBuiltInServiceRetries did not meet minimum retry count, resetting to 3.",
        ]
    );
}

#[test]
fn documents_share_their_names() {
    let lines = Arc::new(Lines::default());
    let policies = load(
        &documents(&[
            (
                "one",
                "{policies: {timeouts: {t: 1}}, targets: {components: {c: {outbound: {timeout: t, retry: missing}}}}}",
            ),
            (
                "two",
                "{policies: {timeouts: {t: 2}}, targets: {apps: {a: {retry: DaprBuiltInServiceRetries, timeout: t}}}}",
            ),
        ]),
        lines.clone(),
    );
    let component = policies.component("c", Kind::Lock, Flow::Outbound);
    assert_eq!(component.timeout, Some(Duration::from_millis(2)));
    let app = policies.app("a", "a");
    assert_eq!(app.retry.unwrap().max_retries, Some(3));
    let lines = lines.0.lock().unwrap().clone();
    assert_eq!(
        lines.last().unwrap().1,
        "Resiliency target c names the policy missing, which is not defined; it is ignored"
    );
}
