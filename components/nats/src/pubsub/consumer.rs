//! Finding, making and joining the consumer of a subscription.
//!
//! A durable consumer that is there already is joined as it is, if it is what the settings say; its messages come on the
//! subject that it has. Any other is made with a subject of its own.

use super::Shared;
use super::reply::Reply;
use crate::api::{self, Consumer, ConsumerInfo, nanos};
use crate::config::{Acks, Begin};
use crate::failure::Fault;
use async_nats::Subscriber;
use jiff::Timestamp;
use outrigger_component::error::{Error, Kind, Result};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a consumer may seem to be taken by somebody who has just left.
const VACATING: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Somebody else may make the same consumer at the same time.
const ATTEMPTS: usize = 3;
/// What the server takes where nobody says anything.
const ACK_WAIT: Duration = Duration::from_secs(30);
const MAX_ACK_PENDING: usize = 1000;
/// Messages that are taken from a server that knows no limit.
const MOST_HELD: usize = 4096;

/// A consumer whose messages come to us.
pub(super) struct Joined {
    pub stream: String,
    pub info: ConsumerInfo,
    pub messages: Subscriber,
}

impl Joined {
    /// Messages that may be in our hands.
    pub(super) fn limit(&self) -> usize {
        let pending = self.info.config.max_ack_pending.unwrap_or(0);
        match (self.info.config.ack_policy.as_str(), usize::try_from(pending)) {
            ("none", _) | (_, Ok(0)) => MAX_ACK_PENDING,
            (_, Ok(limit)) => limit.min(MOST_HELD),
            (_, Err(_)) => MOST_HELD,
        }
    }

    /// After which silence the server delivers again.
    pub(super) fn ack_wait(&self) -> Duration {
        let config = &self.info.config;
        let shortest = config.backoff.iter().min().or(config.ack_wait.as_ref());
        shortest
            .map(|wait| Duration::from_nanos(*wait))
            .filter(|wait| !wait.is_zero())
            .unwrap_or(ACK_WAIT)
    }
}

/// `resume`: where a consumer begins that takes the place of a lost one.
///
/// # Errors
/// `NotFound` if no stream has the topic, `Invalid` if there is a consumer of that name that is another, `Unavailable` if it
/// has a subscriber and is for one only; whatever JetStream refuses.
pub(super) async fn join(shared: &Shared, topic: &str, resume: Option<u64>) -> Result<Joined> {
    let stream = stream(shared, topic).await?;
    let because = |fault: Fault| {
        fault.because(&format!(
            "jetstream: cannot subscribe to {topic} of stream {stream}"
        ))
    };
    let durable = &shared.config.durable_name;
    if durable.is_empty() {
        let wanted = shared.consumer(topic, None, resume)?;
        return create(shared, &stream, wanted).await.map_err(because);
    }
    // The first topic has the name itself: COMPAT(components-contrib pubsub/jetstream), where there can be no second.
    for name in [durable.clone(), format!("{durable}_{}", escaped(topic))] {
        for attempt in 0..ATTEMPTS {
            let wanted = shared.consumer(topic, Some(&name), resume)?;
            match info(shared, &stream, &name).await.map_err(because)? {
                Some(there) if there.config.filter_subject.as_deref().unwrap_or_default() != topic => break,
                Some(there) => {
                    differs(&there.config, &wanted).map_or(Ok(()), |what| {
                        Err(Error::invalid(format!(
                            "jetstream: consumer {name} of stream {stream} is there with another {what}: remove it (nats \
                             consumer rm {stream} {name}), or say in the metadata what it has"
                        )))
                    })?;
                    return bind(shared, stream, there).await;
                }
                None => match create(shared, &stream, wanted).await {
                    Err(Fault::Refused(refusal))
                        if api::CONSUMER_EXISTS.contains(&refusal.err_code) && attempt + 1 < ATTEMPTS => {}
                    result => return result.map_err(because),
                },
            }
        }
    }
    Err(Error::invalid(format!(
        "jetstream: consumer {durable} of stream {stream} is there for another subject than {topic}"
    )))
}

/// `None` if there is no such consumer, or no such stream.
pub(super) async fn info(shared: &Shared, stream: &str, name: &str) -> Result<Option<ConsumerInfo>, Fault> {
    match shared
        .client
        .look_up(&format!("CONSUMER.INFO.{stream}.{name}"))
        .await
    {
        Ok(info) => Ok(Some(info)),
        Err(Fault::Refused(refusal))
            if [api::CONSUMER_NOT_FOUND, api::STREAM_NOT_FOUND].contains(&refusal.err_code) =>
        {
            Ok(None)
        }
        Err(fault) => Err(fault),
    }
}

async fn stream(shared: &Shared, topic: &str) -> Result<String> {
    if !shared.config.stream_name.is_empty() {
        return Ok(shared.config.stream_name.clone());
    }
    let request = api::NamesRequest { subject: topic };
    let names: api::Names = shared
        .client
        .api("STREAM.NAMES", &request)
        .await
        .map_err(|fault| fault.because(&format!("jetstream: cannot find the stream of {topic}")))?;
    let first = names.streams.unwrap_or_default().into_iter().next();
    first.ok_or_else(|| {
        Error::new(
            Kind::NotFound,
            format!("jetstream: no stream matches subject {topic}: make one that does (nats stream add), or set streamName"),
        )
    })
}

async fn create(shared: &Shared, stream: &str, mut wanted: Consumer) -> Result<Joined, Fault> {
    let subject = shared.client.fresh_subject();
    wanted.deliver_subject = Some(subject.clone());
    // First, so that nothing is sent that nobody receives.
    let messages = shared
        .client
        .subscribe(&subject, wanted.deliver_group.as_deref())
        .await?;
    let request = match &wanted.durable_name {
        Some(name) => format!("CONSUMER.DURABLE.CREATE.{stream}.{name}"),
        None => format!("CONSUMER.CREATE.{stream}"),
    };
    let body = api::CreateConsumer {
        stream_name: stream,
        config: &wanted,
    };
    let info: ConsumerInfo = shared.client.api(&request, &body).await?;
    let messages = match &info.config.deliver_subject {
        Some(other) if *other != subject => {
            shared
                .client
                .subscribe(other, info.config.deliver_group.as_deref())
                .await?
        }
        _ => messages,
    };
    Ok(Joined {
        stream: stream.to_owned(),
        info,
        messages,
    })
}

async fn bind(shared: &Shared, stream: String, mut info: ConsumerInfo) -> Result<Joined> {
    let because =
        |fault: Fault| fault.because(&format!("jetstream: cannot join a consumer of stream {stream}"));
    let until = Instant::now() + VACATING;
    while info.push_bound && info.config.deliver_group.is_none() {
        if Instant::now() >= until {
            return Err(Error::new(
                Kind::Unavailable,
                format!(
                    "jetstream: consumer {} of stream {stream} has a subscriber already: set queueGroupName, so that several can \
                     share it",
                    info.name
                ),
            ));
        }
        sleep(LOOK_AGAIN).await;
        let Some(now) = self::info(shared, &stream, &info.name).await.map_err(because)? else {
            continue;
        };
        info = now;
    }
    let subject = info.config.deliver_subject.clone().unwrap_or_default();
    let messages = shared
        .client
        .subscribe(&subject, info.config.deliver_group.as_deref())
        .await
        .map_err(because)?;
    Ok(Joined {
        stream,
        info,
        messages,
    })
}

impl Shared {
    /// The settings as JetStream has them.
    fn consumer(&self, topic: &str, durable: Option<&str>, resume: Option<u64>) -> Result<Consumer> {
        let config = &self.config;
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let start_time = match config.start_time.filter(|seconds| *seconds != 0) {
            Some(seconds) => Some(
                Timestamp::from_second(seconds)
                    .map_err(|_| Error::invalid(format!("metadata startTime: {seconds} is no time")))?
                    .to_string(),
            ),
            None => None,
        };
        let mut consumer = Consumer {
            durable_name: durable.map(str::to_owned),
            deliver_subject: None,
            deliver_group: text(&config.queue_group_name),
            deliver_policy: match self.begin {
                Begin::All => "all",
                Begin::Last => "last",
                Begin::New => "new",
                Begin::Sequence => "by_start_sequence",
                Begin::Time => "by_start_time",
            }
            .to_owned(),
            opt_start_seq: config.start_sequence.filter(|sequence| *sequence > 0),
            opt_start_time: start_time,
            ack_policy: match self.acks {
                Acks::Explicit => "explicit",
                Acks::All => "all",
                Acks::None => "none",
            }
            .to_owned(),
            ack_wait: config.ack_wait.filter(|wait| !wait.is_zero()).map(nanos),
            max_deliver: config.max_deliver.filter(|most| *most != 0),
            backoff: config.back_off.iter().copied().map(nanos).collect(),
            filter_subject: Some(topic.to_owned()),
            replay_policy: "instant".to_owned(),
            rate_limit_bps: config.rate_limit.filter(|limit| *limit > 0),
            max_ack_pending: config.max_ack_pending.filter(|most| *most != 0),
            idle_heartbeat: config.heartbeat.filter(|time| !time.is_zero()).map(nanos),
            flow_control: config.flow_control,
            num_replicas: config.replicas.unwrap_or(0),
            mem_storage: config.memory_storage,
        };
        if let Some(sequence) = resume {
            "by_start_sequence".clone_into(&mut consumer.deliver_policy);
            consumer.opt_start_seq = Some(sequence.max(1));
            consumer.opt_start_time = None;
        }
        Ok(consumer)
    }
}

/// What the consumer that is there has otherwise; what is not said may be anything. Where it began does not matter any more.
fn differs(there: &Consumer, wanted: &Consumer) -> Option<&'static str> {
    let other = |wanted: Option<u64>, there: Option<u64>| wanted.is_some() && wanted != there;
    let other_signed = |wanted: Option<i64>, there: Option<i64>| wanted.is_some() && wanted != there;
    let backed_off = !wanted.backoff.is_empty();
    [
        (
            "way of delivery: it is a pull consumer",
            there.deliver_subject.is_none(),
        ),
        ("queueGroupName", there.deliver_group != wanted.deliver_group),
        ("ackPolicy", there.ack_policy != wanted.ack_policy),
        // The server takes the first of the list for it.
        ("ackWait", !backed_off && other(wanted.ack_wait, there.ack_wait)),
        ("backOff", backed_off && wanted.backoff != there.backoff),
        ("maxDeliver", other_signed(wanted.max_deliver, there.max_deliver)),
        (
            "maxAckPending",
            other_signed(wanted.max_ack_pending, there.max_ack_pending),
        ),
        ("rateLimit", other(wanted.rate_limit_bps, there.rate_limit_bps)),
        ("heartbeat", other(wanted.idle_heartbeat, there.idle_heartbeat)),
        ("flowControl", wanted.flow_control && !there.flow_control),
        (
            "replicas",
            wanted.num_replicas != 0 && wanted.num_replicas != there.num_replicas,
        ),
        ("memoryStorage", wanted.mem_storage && !there.mem_storage),
    ]
    .into_iter()
    .find_map(|(what, differs)| differs.then_some(what))
}

/// For the name of a consumer, which has neither dots nor wildcards: letters, digits and `-` stay, all else is `_` and two digits.
fn escaped(topic: &str) -> String {
    topic
        .bytes()
        .map(|byte| match byte {
            b'-' => "-".to_owned(),
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("_{byte:02X}"),
        })
        .collect()
}

/// A message that a consumer has sent, and where it is acknowledged. `None` for the server's own.
pub(super) fn reply(message: &async_nats::Message) -> Option<Reply> {
    Reply::parse(message.reply.as_ref()?)
}

#[cfg(test)]
mod tests {
    use super::{Consumer, differs, escaped};
    use std::collections::HashMap;

    #[test]
    fn consumers_that_are_there() {
        let there = Consumer {
            deliver_subject: Some("_INBOX.x".to_owned()),
            deliver_policy: "all".to_owned(),
            ack_policy: "explicit".to_owned(),
            ack_wait: Some(30),
            max_deliver: Some(-1),
            max_ack_pending: Some(1000),
            num_replicas: 1,
            ..Consumer::default()
        };
        let wanted = Consumer {
            deliver_policy: "new".to_owned(),
            ack_policy: "explicit".to_owned(),
            ..Consumer::default()
        };
        type Change = fn(&mut Consumer);
        let cases: [(Change, Option<&str>); 12] = [
            (|_| {}, None),
            (|wanted| wanted.ack_wait = Some(30), None),
            (|wanted| wanted.ack_wait = Some(5), Some("ackWait")),
            (|wanted| wanted.backoff = vec![5], Some("backOff")),
            (
                |wanted| wanted.deliver_group = Some("g".to_owned()),
                Some("queueGroupName"),
            ),
            (|wanted| wanted.ack_policy = "all".to_owned(), Some("ackPolicy")),
            (|wanted| wanted.max_deliver = Some(3), Some("maxDeliver")),
            (|wanted| wanted.max_ack_pending = Some(3), Some("maxAckPending")),
            (|wanted| wanted.idle_heartbeat = Some(3), Some("heartbeat")),
            (|wanted| wanted.flow_control = true, Some("flowControl")),
            (|wanted| wanted.num_replicas = 3, Some("replicas")),
            (|wanted| wanted.mem_storage = true, Some("memoryStorage")),
        ];
        for (number, (change, expected)) in cases.into_iter().enumerate() {
            let mut wanted = wanted.clone();
            change(&mut wanted);
            assert_eq!(differs(&there, &wanted), expected, "case {number}");
        }
        let pull = Consumer {
            deliver_subject: None,
            ..there
        };
        assert!(differs(&pull, &wanted).is_some_and(|what| what.contains("pull")));
    }

    #[test]
    fn topics_in_names() {
        for (topic, name) in [
            ("orders", "orders"),
            ("a.b-c", "a_2Eb-c"),
            ("a_b", "a_5Fb"),
            ("a.*.>", "a_2E_2A_2E_3E"),
        ] {
            assert_eq!(escaped(topic), name);
        }
        let mut seen = HashMap::new();
        for one in ["a", ".", "_", "2E", "*"] {
            for other in ["a", ".", "_", "2E", "*"] {
                let topic = [one, other].concat();
                if let Some(same) = seen.insert(escaped(&topic), topic.clone()) {
                    assert_eq!(same, topic, "two topics, one name");
                }
            }
        }
    }
}
