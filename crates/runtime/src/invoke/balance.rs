//! Which instance of an app the next call goes to: each in turn, leaving out for a while those that could not be reached.
//!
//! No I/O and no clock: the time comes in. An instance that fails is left out for a second, then for twice as long with
//! every further failure, up to half a minute; then calls try it again, and the first answer forgives it. When all
//! instances are left out, all are in: a wrong guess must not make an app unreachable.
//!
//! INVARIANT: while nothing fails, choosing takes no lock.

use arc_swap::ArcSwap;
use outrigger_component::resolver::Endpoint;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Instances remembered; those whose time is over go first.
const REMEMBERED: usize = 1024;

#[derive(Default)]
pub(super) struct Balance {
    turn: AtomicUsize,
    failed: ArcSwap<HashMap<Endpoint, Failed>>,
}

#[derive(Debug, Clone, Copy)]
struct Failed {
    pause: Duration,
    until: Instant,
}

impl Balance {
    /// One of those found; `None` when there are none.
    pub(super) fn choose(&self, mut found: Vec<Endpoint>, now: Instant) -> Option<Endpoint> {
        let failed = self.failed.load();
        if !failed.is_empty() && found.len() > 1 {
            let is_out = |endpoint: &Endpoint| failed.get(endpoint).is_some_and(|it| it.until > now);
            if found.iter().any(|endpoint| !is_out(endpoint)) {
                found.retain(|endpoint| !is_out(endpoint));
            }
        }
        if found.is_empty() {
            return None;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % found.len();
        Some(found.swap_remove(turn))
    }

    /// An instance could not be reached.
    pub(super) fn failed(&self, endpoint: &Endpoint, now: Instant) {
        self.failed.rcu(|known| {
            let mut next = HashMap::clone(known);
            if next.len() >= REMEMBERED {
                next.retain(|_, it| it.until > now);
            }
            if next.len() >= REMEMBERED {
                next.clear();
            }
            let pause = match next.get(endpoint) {
                // Calls that were under way together are one failure.
                Some(it) if it.until > now => it.pause,
                Some(it) => (it.pause * 2).min(LONGEST_PAUSE),
                None => FIRST_PAUSE,
            };
            let until = now + pause;
            next.insert(endpoint.clone(), Failed { pause, until });
            next
        });
    }

    /// An instance answered.
    pub(super) fn answered(&self, endpoint: &Endpoint) {
        if self.failed.load().contains_key(endpoint) {
            self.failed.rcu(|known| {
                let mut next = HashMap::clone(known);
                next.remove(endpoint);
                next
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Balance, FIRST_PAUSE, LONGEST_PAUSE, REMEMBERED};
    use outrigger_component::resolver::Endpoint;
    use std::time::Duration;
    use tokio::time::Instant;

    fn endpoints(names: &[&str]) -> Vec<Endpoint> {
        names.iter().map(|name| Endpoint((*name).to_owned())).collect()
    }

    /// Who is chosen in as many turns as there are instances, twice over.
    fn round(balance: &Balance, names: &[&str], now: Instant) -> Vec<String> {
        let mut chosen: Vec<_> = (0..names.len() * 2)
            .filter_map(|_| balance.choose(endpoints(names), now))
            .map(|endpoint| endpoint.0)
            .collect();
        chosen.sort();
        chosen.dedup();
        chosen
    }

    #[test]
    fn each_in_turn() {
        let balance = Balance::default();
        let now = Instant::now();
        assert_eq!(balance.choose(Vec::new(), now), None);
        let mut counts = [0; 3];
        for _ in 0..300 {
            let chosen = balance.choose(endpoints(&["0", "1", "2"]), now).unwrap();
            counts[chosen.0.parse::<usize>().unwrap()] += 1;
        }
        assert_eq!(counts, [100, 100, 100]);
    }

    #[test]
    fn the_dead_are_left_out_longer_and_longer() {
        let balance = Balance::default();
        let mut now = Instant::now();
        let dead = Endpoint("dead".to_owned());
        let moment = Duration::from_millis(1);
        let mut pause = FIRST_PAUSE;
        for _ in 0..8 {
            balance.failed(&dead, now);
            // A second call that failed at the same time changes nothing.
            balance.failed(&dead, now);
            assert_eq!(
                round(&balance, &["dead", "good"], now + pause - moment),
                ["good"],
                "{pause:?}"
            );
            assert_eq!(
                round(&balance, &["dead", "good"], now + pause),
                ["dead", "good"],
                "{pause:?}"
            );
            now += pause;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        balance.answered(&dead);
        balance.failed(&dead, now);
        assert_eq!(
            round(&balance, &["dead", "good"], now + FIRST_PAUSE),
            ["dead", "good"]
        );
    }

    #[test]
    fn when_all_are_dead_all_are_tried() {
        let balance = Balance::default();
        let now = Instant::now();
        for endpoint in endpoints(&["a", "b"]) {
            balance.failed(&endpoint, now);
        }
        assert_eq!(round(&balance, &["a", "b"], now), ["a", "b"]);
        assert_eq!(round(&balance, &["a"], now), ["a"]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let balance = Balance::default();
        let now = Instant::now();
        for number in 0..REMEMBERED * 2 {
            balance.failed(&Endpoint(number.to_string()), now);
        }
        assert!(balance.failed.load().len() <= REMEMBERED);
    }
}
