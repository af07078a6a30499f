//! Brokers while their world changes: restarts, members that come and go, poison, members that do not keep up.
//!
//! Each case publishes numbered messages, repeats what was not acknowledged, and holds what came against what was
//! acknowledged: nothing may be lost, and with [`Order::PerKey`] nothing may overtake. Each prints one line of what was
//! lost, came twice, or came in another order. Repetitions are no failure: brokers promise "at least once".

mod ledger;
mod member;

use super::{Nature, Order};
use crate::broker::text;
use futures::future::{BoxFuture, join_all};
use futures::stream::{FuturesUnordered, StreamExt as _};
use ledger::{Ledger, Publisher};
use member::Member;
use outrigger_component::pubsub::{Delivery, Outcome, PubSub};
use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A consumer group, and how one becomes a member of it.
pub struct Group<'a> {
    /// Builds the component anew; all that it builds are members of one group, as sidecars of one app are.
    pub connect: &'a (dyn Fn() -> BoxFuture<'a, Arc<dyn PubSub>> + Sync),
    /// Begins all topics and keeps apart runs on the same broker.
    pub prefix: &'a str,
    pub nature: Nature,
}

/// How many keys, each with a publisher that sends one after the other.
const KEYS: u64 = 32;

/// `count` messages; when half of them are published, `interruption` takes place: it kills the broker and starts it
/// again, cuts the connection for a while, or whatever else is over when it returns.
///
/// # Panics
/// When something is lost, or a publish fails in a way that tells callers not to repeat it.
pub async fn interrupted(group: &Group<'_>, count: u64, interruption: impl Future<Output = ()>) {
    let ledger = Ledger::new("interrupted");
    let broker = (group.connect)().await;
    let topic = group.topic("interrupted");
    let mut member = Member::join(Arc::clone(&broker), &topic, group.nature).await;
    let (half, halfway) = oneshot::channel();
    let each = count / KEYS;
    let publishers = (0..KEYS).map(|key| Publisher::new(&*broker, &topic, key, group.nature, &ledger));
    let mut publishers: Vec<_> = publishers.collect();
    let publishing = async {
        join_all(publishers.iter_mut().map(|publisher| publisher.publish(each / 2))).await;
        // Nobody listens when the test is over already.
        half.send(()).ok();
        let rest = each - each / 2;
        join_all(publishers.iter_mut().map(|publisher| publisher.publish(rest))).await;
    };
    let interrupting = async {
        halfway.await.expect("half of it is published");
        interruption.await;
    };
    tokio::select! {
        ((), ()) = async { tokio::join!(publishing, interrupting) } => {}
        () = member.work(&ledger, Duration::ZERO) => unreachable!("a member works until it is told not to"),
    }
    finish(group, &ledger, &mut member).await;
    member.leave().await;
}

/// Every second of `time` a member comes or goes, between one and four of them, while messages are published.
/// Those who go are in the middle of something.
///
/// # Panics
/// When something is lost.
pub async fn members(group: &Group<'_>, time: Duration) {
    const WORK: Duration = Duration::from_millis(2);
    let ledger = Ledger::new("members");
    let topic = group.topic("members");
    let broker = (group.connect)().await;
    let until = Instant::now() + time;
    let publishing = join_all((0..KEYS).map(|key| {
        let mut publisher = Publisher::new(&*broker, &topic, key, group.nature, &ledger);
        async move {
            while Instant::now() < until {
                publisher.publish(1).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }));
    let changing = async {
        let mut working = FuturesUnordered::new();
        let mut leave = VecDeque::new();
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        let mut growing = true;
        while Instant::now() < until {
            tokio::select! {
                _ = ticks.tick() => {}
                Some(()) = working.next() => continue,
            }
            growing = match leave.len() {
                0 | 1 => true,
                4.. => false,
                _ => growing,
            };
            if growing {
                let (tell, told) = oneshot::channel::<()>();
                leave.push_back(tell);
                let (topic, ledger) = (&topic, &ledger);
                working.push(async move {
                    let mut member = Member::join((group.connect)().await, topic, group.nature).await;
                    tokio::select! {
                        biased;
                        _ = told => {}
                        () = member.work(ledger, WORK) => {}
                    }
                    member.leave().await;
                });
            } else {
                leave.pop_front();
            }
        }
        leave.clear();
        while working.next().await.is_some() {}
    };
    tokio::join!(publishing, changing);
    let mut last = Member::join(Arc::clone(&broker), &topic, group.nature).await;
    finish(group, &ledger, &mut last).await;
    last.leave().await;
}

/// One message that is refused each time until all others are there, among `count` good ones; it must come at least
/// three times. Brokers that hold back what is behind a refused message are relieved of it after three times.
///
/// # Panics
/// When the good ones do not come, or the bad one does not come again.
pub async fn poison(group: &Group<'_>, count: u64) {
    let ledger = Ledger::new("poison");
    let topic = group.topic("poison");
    let broker = (group.connect)().await;
    let mut member = Member::join(Arc::clone(&broker), &topic, group.nature).await;
    let mut publishers: Vec<_> = (0..KEYS)
        .map(|key| Publisher::new(&*broker, &topic, key, group.nature, &ledger))
        .collect();
    let each = count / KEYS;
    let good = join_all(publishers.iter_mut().map(|publisher| publisher.publish(each)));
    let publishing = async {
        ledger::send(&*broker, &topic, "poison", "poison".into(), group.nature).await;
        good.await;
    };
    let mut refused = 0;
    let reading = async {
        let mut relieved = false;
        while ledger.delivered() < each * KEYS || !relieved {
            let delivery = member.next(group.nature.patience + group.nature.redelivery).await;
            if text(&delivery) != "poison" {
                ledger.take(delivery);
                continue;
            }
            let enough = refused >= 3 && (group.nature.holds || ledger.delivered() >= each * KEYS);
            relieved = relieved || enough;
            refused += usize::from(!enough);
            delivery.settle(if enough { Outcome::Ack } else { Outcome::Nack });
        }
    };
    tokio::join!(publishing, reading);
    assert!(refused >= 3, "the bad message came {refused} times");
    ledger.tell(group.nature);
    member.leave().await;
}

/// A member that takes one message every 20 ms while `count` are published at full speed, then holds as many as it may
/// for `hold` (longer than the broker's own patience with silent members), and then catches up.
///
/// # Panics
/// When something is lost, or more is handed out than the subscription said.
pub async fn slow(group: &Group<'_>, count: u64, hold: Duration) {
    let ledger = Ledger::new("slow");
    let topic = group.topic("slow");
    let broker = (group.connect)().await;
    let mut member = Member::join(Arc::clone(&broker), &topic, group.nature).await;
    let each = count / KEYS;
    let publishing = join_all((0..KEYS).map(|key| {
        let mut publisher = Publisher::new(&*broker, &topic, key, group.nature, &ledger);
        async move { publisher.publish(each).await }
    }));
    tokio::select! {
        _ = publishing => {}
        () = member.work(&ledger, Duration::from_millis(20)) => unreachable!("a member works until it is told not to"),
    }
    let most = member.concurrency();
    let mut held: Vec<Delivery> = Vec::new();
    let until = Instant::now() + hold;
    // Polled all the time, as a runtime with free places does.
    while let Some(delivery) = member.next_until(until, held.len() < most).await {
        held.push(delivery);
    }
    assert!(!held.is_empty(), "a slow member still gets something");
    for delivery in held {
        ledger.take(delivery);
    }
    finish(group, &ledger, &mut member).await;
    member.leave().await;
}

/// So many publishers at once on one component, `each` messages from each one after the other; prints the rate.
///
/// # Panics
/// When something is lost.
pub async fn parallel(group: &Group<'_>, publishers: u64, each: u64) {
    let ledger = Ledger::new("parallel");
    let topic = group.topic("parallel");
    let broker = (group.connect)().await;
    let mut member = Member::join(Arc::clone(&broker), &topic, group.nature).await;
    let began = Instant::now();
    let publishing = join_all((0..publishers).map(|key| {
        let mut publisher = Publisher::new(&*broker, &topic, key, group.nature, &ledger);
        async move { publisher.publish(each).await }
    }));
    tokio::select! {
        _ = publishing => {}
        () = member.work(&ledger, Duration::ZERO) => unreachable!("a member works until it is told not to"),
    }
    ledger.say(&format!(
        "{:?} for {} messages",
        began.elapsed(),
        publishers * each
    ));
    finish(group, &ledger, &mut member).await;
    member.leave().await;
}

/// Reads until everything has come that was acknowledged, and judges.
async fn finish(group: &Group<'_>, ledger: &Ledger, member: &mut Member) {
    let mut last = (Instant::now(), ledger.missing());
    while ledger.missing() > 0 {
        let until = Instant::now() + Duration::from_millis(200);
        while let Some(delivery) = member.next_until(until, true).await {
            ledger.take(delivery);
            if ledger.missing() == 0 {
                break;
            }
        }
        if ledger.missing() < last.1 {
            last = (Instant::now(), ledger.missing());
        } else if last.0.elapsed() > group.nature.patience + group.nature.redelivery {
            break;
        }
    }
    ledger.tell(group.nature);
}

impl Group<'_> {
    fn topic(&self, case: &str) -> String {
        format!("{}{case}", self.prefix)
    }
}
