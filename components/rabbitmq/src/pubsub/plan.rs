//! What a subscription declares at the broker. Pure.
//!
//! COMPAT(components-contrib pubsub/rabbitmq/rabbitmq.go prepareSubscription).

use crate::amqp::wire::{Table, Value};
use crate::config::PubSub as Config;
use crate::consumer::{DeadLetter, Plan, Source};
use outrigger_component::error::{Error, Result};
use outrigger_component::pubsub::Subscribe;

/// Messages that the broker sends before any is acknowledged, when the metadata do not say. The reference would take
/// all there are, into memory.
const WINDOW: u16 = 512;

/// # Errors
/// `Invalid`, naming the metadata of the subscription.
pub(super) fn plan(config: &Config, group: &str, subscribe: &Subscribe) -> Result<Plan> {
    let Subscribe { topic, metadata, .. } = subscribe;
    let text = |name| metadata.get(name).filter(|text| !text.is_empty());
    let number = |name| match text(name) {
        None => Ok(None),
        Some(text) => text
            .parse::<u32>()
            .map(|number| Some(i64::from(number)))
            .map_err(|_| {
                Error::invalid(format!(
                    "metadata {name} of the subscription to {topic} is not a number: {text}"
                ))
            }),
    };
    let queue = match text("queueName") {
        Some(name) => name.to_owned(),
        None if group.is_empty() => {
            return Err(Error::invalid(
                "consumerID is required for subscriptions that don't specify a queue name",
            ));
        }
        None => format!("{group}-{topic}"),
    };
    let bounds = bounds(config);
    let mut arguments = bounds.clone();
    let dead_letter = config.enable_dead_letter.then(|| DeadLetter {
        exchange: format!("dlx-{queue}"),
        queue: format!("dlq-{queue}"),
        arguments: {
            let mut arguments = bounds;
            arguments.insert("x-queue-mode".to_owned(), Value::from("lazy"));
            arguments
        },
    });
    let mut set = |name: &str, value| arguments.insert(name.to_owned(), value);
    if let Some(dead) = &dead_letter {
        set("x-dead-letter-exchange", Value::from(dead.exchange.as_str()));
    }
    if let Some(priority) = number("maxPriority")? {
        set("x-max-priority", Value::Int(priority.min(255)));
    }
    let kind = text("queueType").unwrap_or("classic");
    if !["classic", "quorum"].contains(&kind) {
        return Err(Error::invalid(format!(
            "invalid queue type {kind}. Valid types are classic and quorum"
        )));
    }
    set("x-queue-type", Value::from(kind));
    if metadata
        .get("singleActiveConsumer")
        .is_some_and(outrigger_component::metadata::truthy)
    {
        set("x-single-active-consumer", Value::Bool(true));
    }
    if let Some(bytes) = number("maxLenBytes")? {
        set("x-max-length-bytes", Value::Int(bytes));
    }
    if let Some(count) = number("maxLen")? {
        set("x-max-length", Value::Int(count));
    }
    let keys = metadata.get("routingKey").unwrap_or_default();
    Ok(Plan {
        source: Some(Source {
            exchange: topic.clone(),
            kind: config.exchange_kind().to_owned(),
            keys: keys.split(',').map(str::to_owned).collect(),
        }),
        dead_letter,
        queue,
        durable: config.durable(),
        exclusive: false,
        auto_delete: config.deleted_when_unused(),
        arguments,
        prefetch: match config.prefetch_count {
            0 => WINDOW,
            count => count.into(),
        },
        auto_ack: config.auto_ack,
        requeue: config.requeues(),
    })
}

fn bounds(config: &Config) -> Table {
    [
        ("x-max-length", config.max_len),
        ("x-max-length-bytes", config.max_len_bytes),
    ]
    .into_iter()
    .filter_map(|(name, most)| {
        let most = most.filter(|most| *most > 0)?;
        Some((name.to_owned(), Value::Int(most)))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::{WINDOW, plan};
    use crate::amqp::wire::{Table, Value};
    use crate::config::PubSub as Config;
    use outrigger_component::metadata::{self, Metadata};
    use outrigger_component::pubsub::Subscribe;

    type Pairs = &'static [(&'static str, &'static str)];

    fn planned(
        config: Pairs,
        subscription: Pairs,
    ) -> outrigger_component::error::Result<crate::consumer::Plan> {
        let config: Config = metadata::decode(&Metadata::from_iter(config.iter().copied())).unwrap();
        let subscribe = Subscribe {
            topic: "t".to_owned(),
            metadata: Metadata::from_iter(subscription.iter().copied()),
            batch: 0,
        };
        plan(&config, "app", &subscribe)
    }

    fn table(pairs: &[(&str, Value)]) -> Table {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect()
    }

    #[test]
    fn defaults_are_the_references() {
        let plan = planned(&[], &[]).unwrap();
        assert_eq!(plan.queue, "app-t");
        assert_eq!(
            (plan.durable, plan.auto_delete, plan.exclusive, plan.auto_ack),
            (true, true, false, false)
        );
        assert_eq!(plan.arguments, table(&[("x-queue-type", "classic".into())]));
        assert_eq!(
            (plan.prefetch, plan.requeue, plan.dead_letter),
            (WINDOW, true, None)
        );
        let source = plan.source.unwrap();
        assert_eq!(
            (source.exchange.as_str(), source.kind.as_str(), source.keys),
            ("t", "fanout", vec![String::new()])
        );
    }

    #[test]
    fn everything_that_can_be_said() {
        let plan = planned(
            &[
                ("enableDeadLetter", "true"),
                ("maxLen", "7"),
                ("maxLenBytes", "-1"),
                ("prefetchCount", "3"),
                ("exchangeKind", "topic"),
                ("durable", "false"),
                ("deletedWhenUnused", "false"),
            ],
            &[
                ("queueName", "q"),
                ("maxPriority", "300"),
                ("queueType", "quorum"),
                ("singleActiveConsumer", "true"),
                ("maxLenBytes", "900"),
                ("routingKey", "a.*,b"),
            ],
        )
        .unwrap();
        assert_eq!(
            plan.arguments,
            table(&[
                ("x-dead-letter-exchange", "dlx-q".into()),
                ("x-max-length", Value::Int(7)),
                ("x-max-length-bytes", Value::Int(900)),
                ("x-max-priority", Value::Int(255)),
                ("x-queue-type", "quorum".into()),
                ("x-single-active-consumer", Value::Bool(true)),
            ])
        );
        let dead = plan.dead_letter.unwrap();
        assert_eq!((dead.exchange.as_str(), dead.queue.as_str()), ("dlx-q", "dlq-q"));
        assert_eq!(
            dead.arguments,
            table(&[("x-max-length", Value::Int(7)), ("x-queue-mode", "lazy".into())])
        );
        assert_eq!(
            (plan.durable, plan.auto_delete, plan.prefetch, plan.requeue),
            (false, false, 3, false)
        );
        assert_eq!(plan.source.unwrap().keys, ["a.*", "b"]);
    }

    #[test]
    fn what_becomes_of_refused_messages() {
        for (config, requeue) in [
            (&[][..], true),
            (
                &[("requeueInFailure", "true"), ("enableDeadLetter", "true")],
                true,
            ),
            (&[("enableDeadLetter", "true")], false),
            (&[("requeueInFailure", "false")], false),
        ] {
            assert_eq!(planned(config, &[]).unwrap().requeue, requeue, "{config:?}");
        }
    }

    #[test]
    fn refused() {
        for (subscription, expected) in [
            (
                &[("queueType", "stream")][..],
                "invalid queue type stream. Valid types are classic and quorum",
            ),
            (
                &[("maxPriority", "high")],
                "metadata maxPriority of the subscription to t is not a number: high",
            ),
            (&[("maxLen", "-1")], "metadata maxLen"),
        ] {
            let error = planned(&[], subscription).unwrap_err();
            assert!(error.message.contains(expected), "{}", error.message);
        }
    }
}
