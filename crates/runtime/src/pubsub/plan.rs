//! What becomes of the events of a subscription, in words, without a broker: from the same documents that a sidecar starts
//! with. What only the broker knows is not said here.

use super::active::Kind;
use super::declared;
use super::deliver::batch::Batching;
use super::pace::{LONGEST, SHORTEST};
use super::publish::is_raw;
use super::scopes::Scopes;
use crate::components::loader::consumer;
use crate::components::{Identity, is_denied};
use outrigger_channel::app::Subscription;
use outrigger_component::metadata::Metadata;
use outrigger_component::registry::{Registry, Type};
use outrigger_resiliency::policies::{BuiltIn, Flow, Kind as Category, Policies};
use outrigger_resources::component::{Component, log_name};
use outrigger_resources::subscription::Subscription as Document;
use outrigger_resources::template;

/// Settings of brokers that decide how events are handed over, under the names that brokers give them.
const HANDING_OVER: [&str; 22] = [
    "concurrency",
    "concurrencyMode",
    "prefetch",
    "prefetchCount",
    "queueDepth",
    "processingTimeout",
    "redeliverInterval",
    "initialOffset",
    "consumeRetryEnabled",
    "consumeRetryInterval",
    "requeueInFailure",
    "durable",
    "deleteWhenUnused",
    "autoAck",
    "qos",
    "cleanSession",
    "ackWait",
    "maxAckPending",
    "maxDeliver",
    "deliverPolicy",
    "durableSubscriptionName",
    "queueGroupName",
];

/// What a sidecar would start with.
pub struct Sources<'s> {
    pub identity: &'s Identity,
    /// Those for this app.
    pub components: &'s [Component],
    /// `spec.components.deny` of the Configuration.
    pub denied: &'s [String],
    pub registry: &'s Registry,
    pub policies: &'s Policies,
}

/// A subscription that somebody asks about.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Of the document; apps give no names.
    pub name: Option<String>,
    pub kind: Kind,
    pub subscription: Subscription,
    /// Whether it is known if the app gets its events in bulk.
    pub bulk_known: bool,
}

/// One subscription, explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub name: Option<String>,
    pub kind: Kind,
    pub pubsub: String,
    pub topic: String,
    /// `pubsub.redis`; empty when there is no such component.
    pub broker_type: String,
    pub version: String,
    pub group: String,
    /// Empty: none.
    pub dead_letter_topic: String,
    /// Headings and sentences.
    pub lines: Vec<(&'static str, String)>,
}

/// The subscriptions of documents, for this app.
///
/// # Errors
/// A document that cannot be used.
pub fn declared(documents: Vec<Document>, app_id: &str) -> Result<Vec<Asked>, declared::Error> {
    let asked = |(name, subscription)| Asked {
        name: Some(name),
        kind: Kind::Declarative,
        subscription,
        bulk_known: true,
    };
    let named = declared::read_named(documents, app_id)?;
    Ok(named.into_iter().map(asked).collect())
}

/// Explains one subscription.
pub fn explain(sources: &Sources<'_>, asked: &Asked) -> Plan {
    let subscription = &asked.subscription;
    let mut plan = Plan {
        name: asked.name.clone(),
        kind: asked.kind,
        pubsub: subscription.pubsub.clone(),
        topic: subscription.topic.clone(),
        broker_type: String::new(),
        version: String::new(),
        group: String::new(),
        dead_letter_topic: subscription.dead_letter_topic.clone(),
        lines: vec![("asked for", by(asked))],
    };
    let component = sources
        .components
        .iter()
        .find(|component| component.name == subscription.pubsub && component.block() == "pubsub");
    match component {
        Some(component) if is_denied(component, sources.denied) => plan.say(
            "broker",
            format!(
                "{} is not loaded, because the Configuration denies components of its type: nothing is delivered",
                component.log_name()
            ),
        ),
        Some(component) => broker(sources, component, &mut plan),
        None => plan.say(
            "broker",
            format!(
                "there is no pub/sub component {:?} for app {:?}: nothing is delivered",
                subscription.pubsub, sources.identity.app_id
            ),
        ),
    }
    app(subscription, asked, &mut plan);
    failures(sources.policies, subscription, &mut plan);
    plan
}

fn by(asked: &Asked) -> String {
    match asked.kind {
        Kind::Declarative => "by a Subscription document".to_owned(),
        Kind::Programmatic => "by the app, when its sidecar asked it".to_owned(),
        Kind::Streaming => "by the app, with a stream that it holds open".to_owned(),
    }
}

fn broker(sources: &Sources<'_>, component: &Component, plan: &mut Plan) {
    let identity = sources.identity;
    plan.broker_type.clone_from(&component.kind);
    plan.version = match component.version.as_str() {
        "" => "v1".to_owned(),
        version => version.to_owned(),
    };
    let title = log_name(&component.name, &component.kind, &plan.version);
    let known = sources.registry.types().into_iter().find(|of| {
        of.full().eq_ignore_ascii_case(&component.kind) && of.version.eq_ignore_ascii_case(&plan.version)
    });
    let Some(known) = known else {
        plan.say(
            "broker",
            format!("{title}, a type that this build does not have: the sidecar does not start"),
        );
        return;
    };
    plan.say("broker", title);
    let names = template::Names {
        app_id: &identity.app_id,
        namespace: identity.namespace_or_default(),
        pod: &identity.pod,
    };
    let metadata: Metadata = match template::properties(&component.metadata, names, || "{uuid}".to_owned()) {
        Ok(metadata) => metadata.into_iter().collect(),
        Err(error) => {
            plan.say("settings", format!("{error}: the sidecar does not start"));
            return;
        }
    };
    let topic = plan.topic.clone();
    let prefix = match template::mentions_namespace(&component.metadata) {
        true => identity.namespace_or_default(),
        false => "",
    };
    plan.say(
        "topic",
        match prefix {
            "" => topic.clone(),
            prefix => format!("{topic}, which the broker knows as {prefix}{topic}"),
        },
    );
    if !Scopes::parse(&metadata, &identity.app_id).may_subscribe(&topic) {
        plan.say(
            "scopes",
            format!(
                "app {:?} is not allowed to subscribe to it by the component's metadata: nothing is delivered",
                identity.app_id
            ),
        );
    }
    consumer(&metadata, &identity.app_id).clone_into(&mut plan.group);
    let group = format!("{}: sidecars of one group share the events", plan.group);
    plan.say("group", group);
    handing_over(&known, &metadata, plan);
}

/// How many at once, in what order, and what else the component is told about it.
fn handing_over(known: &Type, metadata: &Metadata, plan: &mut Plan) {
    let value = |name: &str| {
        let option = known.all_options().find(|option| option.is(name))?;
        let given = std::iter::once(option.name)
            .chain(option.also.iter().copied())
            .find_map(|name| metadata.get_any_case(name))
            .filter(|given| !given.is_empty());
        Some(match given {
            Some(given) => (given.to_owned(), true),
            None => (option.default.to_owned(), false),
        })
    };
    let (concurrency, order) = match value("concurrency") {
        Some((most, _)) if most == "1" => (
            "one event is with the app at a time".to_owned(),
            "as the broker hands them out",
        ),
        Some((most, _)) if most.parse::<usize>().is_ok() => (
            format!("up to {most} events are with the app at once"),
            "events may overtake each other, since several are with the app; `concurrency: 1` keeps the broker's order",
        ),
        _ => (
            "as many as the broker hands out at once".to_owned(),
            "as the broker keeps it for those that it hands out one after the other",
        ),
    };
    plan.say("concurrency", concurrency);
    plan.say("ordering", order.to_owned());
    let settings: Vec<String> = HANDING_OVER
        .iter()
        .filter_map(|name| {
            let (value, given) = value(name)?;
            let value = if value.is_empty() { "none" } else { &value };
            let whose = if given { "" } else { " (default)" };
            Some(format!("{name} {value}{whose}"))
        })
        .collect();
    if !settings.is_empty() {
        plan.say("settings", settings.join(", "));
    }
}

/// What the app gets.
fn app(subscription: &Subscription, asked: &Asked, plan: &mut Plan) {
    let routes: Vec<String> = subscription
        .rules
        .iter()
        .map(|rule| match rule.expression.trim() {
            "" => format!("everything else to {}", rule.path),
            expression => format!("{expression} to {}", rule.path),
        })
        .collect();
    plan.say(
        "routes",
        match (&routes[..], asked.kind) {
            (_, Kind::Streaming) => "down the stream".to_owned(),
            ([], _) => "none: every event is taken as refused".to_owned(),
            ([_], _)
                if subscription
                    .rules
                    .iter()
                    .all(|rule| rule.expression.trim().is_empty()) =>
            {
                routes.join("").replace("everything else", "everything")
            }
            _ => routes.join("; "),
        },
    );
    plan.say(
        "events",
        match is_raw(&subscription.metadata) {
            Ok(true) => "raw payloads, not CloudEvents".to_owned(),
            Ok(false) => "CloudEvents".to_owned(),
            Err(error) => format!("{error}: nothing is delivered"),
        },
    );
    let bulk = match Batching::told(&subscription.bulk) {
        _ if !asked.bulk_known => "not to be seen from outside the sidecar".to_owned(),
        None => "no, one by one".to_owned(),
        Some(batching) => format!(
            "up to {} events in one request, or what has come within {:?}",
            batching.most, batching.patience
        ),
    };
    plan.say("bulk", bulk);
}

/// What happens to what the app does not take.
fn failures(policies: &Policies, subscription: &Subscription, plan: &mut Plan) {
    let policy = policies
        .component(&subscription.pubsub, Category::Pubsub, Flow::Inbound)
        .words();
    let retry = match policy.retry {
        Some(retry) => format!("an event that fails is tried {retry}, by the component's inbound policy"),
        None => {
            "none of the sidecar's own: no Resiliency has an inbound policy with retries for it".to_owned()
        }
    };
    plan.say("retry", retry);
    for part in [policy.timeout, policy.breaker].into_iter().flatten() {
        plan.say("policy", part);
    }
    let again = format!(
        "goes back to the broker after a pause ({SHORTEST:?}, doubling up to {LONGEST:?} while events fail in a row), and comes \
         again when the broker sees fit"
    );
    let (failed, refused) = match subscription.dead_letter_topic.as_str() {
        "" => (again, "is dropped (DROP, or no route wants it)".to_owned()),
        topic => (
            format!(
                "goes to topic {topic} of the same broker when the retries are over; if that fails, it {again}"
            ),
            format!("goes to topic {topic} (DROP, or no route wants it)"),
        ),
    };
    plan.say(
        "dead letter",
        match subscription.dead_letter_topic.as_str() {
            "" => "none".to_owned(),
            topic => format!("topic {topic} of the same broker"),
        },
    );
    plan.say("failed", format!("an event that fails {failed}"));
    plan.say("refused", format!("an event that the app refuses {refused}"));
    if let Some(retry) = policies.built_in(BuiltIn::InitializationRetries).words().retry {
        plan.say(
            "start",
            format!("subscribing itself is tried {retry}; then anew, after growing pauses"),
        );
    }
}

impl Plan {
    fn say(&mut self, heading: &'static str, text: String) {
        self.lines.push((heading, text));
    }
}

#[cfg(test)]
mod tests;
