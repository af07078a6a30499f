use super::{Asked, Plan, Sources, declared, explain};
use crate::components::Identity;
use crate::fakes::{Bench, document};
use crate::pubsub::active::Kind;
use outrigger_channel::app::{Bulk, Rule, Subscription};
use outrigger_resiliency::load::load;
use outrigger_resources::component::Component;
use outrigger_resources::disk::Documents;
use outrigger_resources::resiliency::Resiliency;
use outrigger_resources::subscription::Subscription as Document;
use std::sync::Arc;

const POLICY: &str = "apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: r}
spec:
  policies:
    retries: {often: {policy: constant, duration: 2s, maxRetries: 5}}
    timeouts: {soon: 3s}
  targets:
    components: {guarded: {inbound: {retry: often, timeout: soon}}}
";

fn plan(components: &[Component], denied: &[String], asked: &Asked) -> Plan {
    let bench = Bench::new();
    let settings = bench.settings();
    let policies = load(
        &Documents::of_text("r.yaml", POLICY).load::<Resiliency>().items,
        Arc::new(()),
    );
    let identity = Identity {
        app_id: "shop".to_owned(),
        namespace: "ns".to_owned(),
        pod: String::new(),
    };
    let sources = Sources {
        identity: &identity,
        components,
        denied,
        registry: &settings.registry,
        policies: &policies,
    };
    explain(&sources, asked)
}

fn asked(pubsub: &str, subscription: Subscription) -> Asked {
    Asked {
        name: Some("orders".to_owned()),
        kind: Kind::Declarative,
        subscription: Subscription {
            pubsub: pubsub.to_owned(),
            topic: "t".to_owned(),
            ..subscription
        },
        bulk_known: true,
    }
}

fn says<'p>(plan: &'p Plan, heading: &str) -> &'p str {
    let line = plan.lines.iter().find(|(known, _)| *known == heading);
    line.map_or("", |(_, text)| text)
}

fn rule(expression: &str, path: &str) -> Rule {
    Rule {
        expression: expression.to_owned(),
        path: path.to_owned(),
    }
}

#[test]
fn sentences() {
    let components = [
        document("plain", "pubsub.fake", &[]),
        document("guarded", "pubsub.fake", &[("consumerID", "{namespace}")]),
        document(
            "scoped",
            "pubsub.fake",
            &[("subscriptionScopes", "shop=other"), ("consumerID", "g")],
        ),
        document("unknown", "pubsub.nowhere", &[]),
    ];
    let dead = || Subscription {
        dead_letter_topic: "lost".to_owned(),
        rules: vec![rule("event.type == \"a\"", "/a"), rule("", "/b")],
        bulk: Bulk {
            enabled: true,
            max_messages: 7,
            max_await_ms: 250,
        },
        ..Subscription::default()
    };
    let plain = || Subscription {
        rules: vec![rule("", "/b")],
        metadata: [("rawPayload", "true")].into_iter().collect(),
        ..Subscription::default()
    };
    type Said = &'static [(&'static str, &'static str)];
    let rows: &[(&str, Subscription, Said)] = &[
        (
            "plain",
            plain(),
            &[
                ("broker", "plain (pubsub.fake/v1)"),
                ("topic", "t"),
                ("group", "shop: sidecars"),
                ("routes", "everything to /b"),
                ("events", "raw payloads"),
                ("bulk", "no, one by one"),
                ("retry", "none of the sidecar's own"),
                ("dead letter", "none"),
                ("failed", "goes back to the broker after a pause (50ms"),
                ("refused", "is dropped"),
                ("start", "3 more times"),
            ],
        ),
        (
            "guarded",
            dead(),
            &[
                ("topic", "t, which the broker knows as nst"),
                ("group", "ns.shop:"),
                ("routes", "event.type == \"a\" to /a; everything else to /b"),
                ("events", "CloudEvents"),
                (
                    "bulk",
                    "up to 7 events in one request, or what has come within 250ms",
                ),
                ("retry", "is tried 5 more times, 2s apart"),
                ("policy", "each attempt may take 3s"),
                ("dead letter", "topic lost"),
                (
                    "failed",
                    "goes to topic lost of the same broker when the retries are over",
                ),
                ("refused", "goes to topic lost"),
            ],
        ),
        (
            "scoped",
            Subscription::default(),
            &[
                ("scopes", "is not allowed"),
                ("group", "g:"),
                ("routes", "none: every event"),
            ],
        ),
        (
            "unknown",
            plain(),
            &[("broker", "does not have: the sidecar does not start")],
        ),
        (
            "absent",
            plain(),
            &[("broker", "no pub/sub component \"absent\" for app \"shop\"")],
        ),
    ];
    for (pubsub, subscription, expected) in rows {
        let plan = plan(&components, &[], &asked(pubsub, subscription.clone()));
        for (heading, text) in *expected {
            let said = says(&plan, heading);
            assert!(said.contains(text), "{pubsub}, {heading}: {said:?}");
        }
    }
    let denied = plan(&components, &["pubsub.fake".to_owned()], &asked("plain", plain()));
    assert!(
        says(&denied, "broker").contains("denies components of its type"),
        "{denied:?}"
    );
    let streaming = Asked {
        kind: Kind::Streaming,
        name: None,
        bulk_known: false,
        ..asked("plain", plain())
    };
    let streaming = plan(&components, &[], &streaming);
    assert_eq!(says(&streaming, "routes"), "down the stream");
    assert!(
        says(&streaming, "bulk").contains("not to be seen"),
        "{streaming:?}"
    );
}

#[test]
fn documents_for_the_app_are_declared_with_their_names() {
    let document = |name: &str, scopes: &[&str]| Document {
        name: name.to_owned(),
        pubsub: "p".to_owned(),
        topic: "t".to_owned(),
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        ..Document::default()
    };
    let documents = vec![
        document("mine", &["shop"]),
        document("other", &["else"]),
        document("all", &[]),
    ];
    let names: Vec<_> = declared(documents, "shop")
        .unwrap()
        .into_iter()
        .filter_map(|asked| asked.name)
        .collect();
    assert_eq!(names, ["mine", "all"]);
}
