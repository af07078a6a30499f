//! What became of every order. Plain values: ledgers in, verdict out.

use super::ledger::Deed;
use super::service::Service;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};

/// While a service was away, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outage {
    pub(crate) service: Service,
    pub(crate) from: u64,
    /// When its sidecar was ready again; absent as long as it is away.
    pub(crate) to: Option<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Audit {
    placed: HashSet<String>,
    /// By service; the order service handles bills.
    handled: HashMap<Service, Handled>,
    /// Of orders that the store gave back at the end; absent before.
    pub(crate) stored: Option<usize>,
    pub(crate) outage: Option<Outage>,
}

/// The deliveries to one service.
#[derive(Debug, Default)]
struct Handled {
    orders: HashSet<String>,
    deliveries: usize,
    /// Of each order's first delivery: when the order was placed, and when it was handled.
    times: Vec<(u64, u64)>,
}

/// Milliseconds, of deliveries whose receiver was there.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Audit {
    pub(crate) fn add(&mut self, service: Service, deed: Deed) {
        match deed {
            Deed::Placed { order, .. } => {
                self.placed.insert(order);
            }
            Deed::Handled {
                order,
                placed,
                at,
                event: _,
            } => {
                let handled = self.handled.entry(service).or_default();
                handled.deliveries += 1;
                if handled.orders.insert(order) {
                    handled.times.push((placed, at));
                }
            }
        }
    }

    pub(crate) fn placed(&self) -> usize {
        self.placed.len()
    }

    pub(crate) fn placed_ids(&self) -> impl Iterator<Item = &str> {
        self.placed.iter().map(String::as_str)
    }

    /// How many orders a service has handled at least once.
    pub(crate) fn handled(&self, service: Service) -> usize {
        self.handled
            .get(&service)
            .map_or(0, |handled| handled.orders.len())
    }

    /// How many deliveries a service got beyond one per order.
    pub(crate) fn duplicates_at(&self, service: Service) -> usize {
        self.handled
            .get(&service)
            .map_or(0, |handled| handled.deliveries - handled.orders.len())
    }

    pub(crate) fn duplicates(&self) -> usize {
        Service::ALL
            .into_iter()
            .map(|service| self.duplicates_at(service))
            .sum()
    }

    /// Acknowledged orders that did not reach everybody, or that the store does not have.
    pub(crate) fn lost(&self) -> usize {
        let reached = |order: &String| {
            Service::ALL.iter().all(|service| {
                self.handled
                    .get(service)
                    .is_some_and(|handled| handled.orders.contains(order))
            })
        };
        let missed = self.placed.iter().filter(|order| !reached(order)).count();
        let not_stored = self
            .stored
            .map_or(0, |stored| self.placed.len().saturating_sub(stored));
        missed.max(not_stored)
    }

    /// Whether every order that is known has reached everybody.
    pub(crate) fn complete(&self, orders: usize) -> bool {
        self.placed.len() >= orders
            && Service::ALL
                .into_iter()
                .all(|service| self.handled(service) >= orders)
    }

    /// From just before an order was published until a service had handled it.
    pub(crate) fn latency(&self) -> Latency {
        let mut all: Vec<u64> = Vec::new();
        for service in [Service::Billing, Service::Notification, Service::Shipping] {
            let times = self
                .handled
                .get(&service)
                .map(|handled| handled.times.as_slice())
                .unwrap_or_default();
            let there = times
                .iter()
                .filter(|(placed, at)| !self.away(service, *placed, *at));
            all.extend(there.map(|(placed, at)| at.saturating_sub(*placed)));
        }
        all.sort_unstable();
        Latency {
            p50: quantile(&all, 50),
            p99: quantile(&all, 99),
        }
    }

    /// When the last order that had to wait for a service was handled, counted from when it was back.
    pub(crate) fn caught_up(&self) -> Option<u64> {
        let Outage { service, from, to } = self.outage?;
        let to = to?;
        let times = &self.handled.get(&service)?.times;
        let waited = times
            .iter()
            .filter(|(placed, at)| *placed < to && *at > from)
            .map(|(_, at)| *at);
        waited.max().map(|last| last.saturating_sub(to))
    }

    fn away(&self, service: Service, placed: u64, at: u64) -> bool {
        self.outage.is_some_and(|outage| {
            outage.service == service && at > outage.from && outage.to.is_none_or(|to| placed < to)
        })
    }

    /// The object that `--json` ends with.
    pub(crate) fn json(&self, killed: usize) -> Value {
        let Latency { p50, p99 } = self.latency();
        json!({
            "orders": self.placed(),
            "billed": self.handled(Service::Billing),
            "notified": self.handled(Service::Notification),
            "shipped": self.handled(Service::Shipping),
            "lost": self.lost(),
            "duplicates": self.duplicates(),
            "killed": killed,
            "p50_ms": p50,
            "p99_ms": p99,
        })
    }
}

/// In milliseconds with two decimals; zero of nothing.
fn quantile(sorted: &[u64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    let micros = sorted.get(rank).copied().unwrap_or(0);
    // Exact: far below 2^53.
    (micros as f64 / 10.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::{Audit, Latency, Outage, quantile};
    use crate::demo::ledger::Deed;
    use crate::demo::service::Service;

    fn handled(audit: &mut Audit, service: Service, order: &str, placed: u64, at: u64) {
        audit.add(
            service,
            Deed::Handled {
                order: order.into(),
                event: "e".into(),
                placed,
                at,
            },
        );
    }

    fn everybody() -> Audit {
        let mut audit = Audit::default();
        for order in ["a", "b"] {
            audit.add(
                Service::Order,
                Deed::Placed {
                    order: order.into(),
                    at: 0,
                },
            );
            for service in Service::ALL {
                handled(&mut audit, service, order, 1000, 3000);
            }
        }
        audit
    }

    #[test]
    fn all_is_well() {
        let mut audit = everybody();
        assert!(audit.complete(2) && !audit.complete(3));
        audit.stored = Some(2);
        let expected = r#"{"orders":2,"billed":2,"notified":2,"shipped":2,"lost":0,"duplicates":0,"killed":2,"p50_ms":2.0,"p99_ms":2.0}"#;
        assert_eq!(audit.json(2).to_string(), expected);
    }

    #[test]
    fn what_is_missing_is_lost() {
        let mut audit = everybody();
        audit.add(
            Service::Order,
            Deed::Placed {
                order: "c".into(),
                at: 0,
            },
        );
        assert_eq!(audit.lost(), 1, "nobody got it");
        for service in [Service::Billing, Service::Notification, Service::Shipping] {
            handled(&mut audit, service, "c", 0, 0);
        }
        assert_eq!(audit.lost(), 1, "its bill did not come back");
        handled(&mut audit, Service::Order, "c", 0, 0);
        assert_eq!(audit.lost(), 0);
        audit.stored = Some(1);
        assert_eq!(audit.lost(), 2, "the store has one of three");
    }

    #[test]
    fn duplicates_are_counted_but_not_orders() {
        let mut audit = everybody();
        handled(&mut audit, Service::Billing, "a", 0, 0);
        handled(&mut audit, Service::Billing, "a", 0, 0);
        handled(&mut audit, Service::Order, "b", 0, 0);
        assert_eq!((audit.duplicates(), audit.handled(Service::Billing)), (3, 2));
    }

    #[test]
    fn an_outage_is_not_latency() {
        let mut audit = everybody();
        handled(&mut audit, Service::Billing, "late", 1_000_000, 5_000_000);
        assert_eq!(audit.latency().p99, 4000.0);
        audit.outage = Some(Outage {
            service: Service::Billing,
            from: 2_000_000,
            to: Some(4_000_000),
        });
        assert_eq!(audit.latency(), Latency { p50: 2.0, p99: 2.0 });
        assert_eq!(audit.caught_up(), Some(1_000_000));
    }

    #[test]
    fn quantiles() {
        let cases: [(&[u64], usize, f64); 4] = [
            (&[], 50, 0.0),
            (&[1000], 99, 1.0),
            (&[1000, 2000, 3000, 4000], 50, 2.0),
            (&[1000, 2000, 3000, 4000], 99, 4.0),
        ];
        for (sorted, percent, expected) in cases {
            assert_eq!(quantile(sorted, percent), expected);
        }
    }
}
