//! What the demo shows while it runs and when it is done.

use super::audit::Audit;
use super::service::Service;
use crate::screen::{Colour, Screen, table};
use std::fmt::Write;

/// Width of a bar on a terminal.
const BAR: usize = 30;

/// Live progress: lines that are drawn over on a terminal, a few lines in a pipe.
pub(crate) struct Progress {
    screen: Screen,
    orders: usize,
    /// Lines on the terminal that the next ones replace.
    drawn: usize,
    /// Quarters of the orders that were reported in a pipe.
    reported: usize,
}

impl Progress {
    pub(crate) fn new(screen: Screen, orders: usize) -> Self {
        Self {
            screen,
            orders,
            drawn: 0,
            reported: 0,
        }
    }

    /// Something happened that deserves a line of its own.
    pub(crate) fn event(&mut self, text: &str) {
        self.erase();
        self.screen.info(text);
    }

    pub(crate) fn update(&mut self, audit: &Audit) {
        let latency = audit.latency();
        let counts = [
            ("orders", audit.placed()),
            ("bills", audit.handled(Service::Billing)),
            ("notifications", audit.handled(Service::Notification)),
            ("shipments", audit.handled(Service::Shipping)),
        ];
        if !self.screen.is_terminal() {
            let quarter = audit.placed() * 4 / self.orders.max(1);
            if quarter > self.reported {
                self.reported = quarter;
                let counts: Vec<String> = counts
                    .iter()
                    .map(|(name, count)| format!("{name} {count}"))
                    .collect();
                self.screen.line(&format!(
                    "{}, p50 {} ms, p99 {} ms",
                    counts.join(", "),
                    latency.p50,
                    latency.p99
                ));
            }
            return;
        }
        let mut lines: Vec<String> = counts
            .iter()
            .map(|(name, count)| self.bar(name, *count))
            .collect();
        lines.push(format!(
            "  {:<14} p50 {} ms   p99 {} ms",
            "latency", latency.p50, latency.p99
        ));
        self.erase();
        self.drawn = lines.len();
        self.screen.write((lines.join("\n") + "\n").as_bytes());
    }

    fn bar(&self, name: &str, count: usize) -> String {
        let full = (count.min(self.orders) * BAR) / self.orders.max(1);
        let bar = self.screen.paint(Colour::Green, &"█".repeat(full)) + &"·".repeat(BAR - full);
        format!("  {name:<14} {bar} {count}/{}", self.orders)
    }

    /// Moves to where the lines began and clears from there.
    fn erase(&mut self) {
        if self.drawn > 0 {
            self.screen
                .write(format!("\x1b[{}A\x1b[J", self.drawn).as_bytes());
            self.drawn = 0;
        }
    }
}

/// The table at the end, and what it comes to.
pub(crate) fn verdict(screen: Screen, audit: &Audit, orders: usize, killed: usize) -> String {
    let mut rows = vec![
        ["SERVICE", "GOT", "OF", "MISSING", "DUPLICATES"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let names = [
        (Service::Billing, "billing"),
        (Service::Notification, "notification"),
        (Service::Shipping, "shipping"),
        (Service::Order, "order (bills)"),
    ];
    let placed = audit.placed();
    for (service, name) in names {
        let got = audit.handled(service);
        let missing = placed.saturating_sub(got);
        rows.push(vec![
            name.to_owned(),
            got.to_string(),
            placed.to_string(),
            missing.to_string(),
            audit.duplicates_at(service).to_string(),
        ]);
    }
    if let Some(stored) = audit.stored {
        let missing = placed.saturating_sub(stored);
        rows.push(vec![
            "state store".into(),
            stored.to_string(),
            placed.to_string(),
            missing.to_string(),
            "-".into(),
        ]);
    }
    let mut text = String::from("\n");
    text.push_str(&table(&rows));
    let latency = audit.latency();
    // Writing to a String cannot fail.
    let _infallible = writeln!(
        text,
        "\nFrom placing an order to its being handled: p50 {} ms, p99 {} ms{}",
        latency.p50,
        latency.p99,
        if audit.outage.is_some() {
            " (without the orders that waited for the killed service)"
        } else {
            ""
        }
    );
    if let Some(outage) = audit.outage {
        let away = outage.to.map(|to| to.saturating_sub(outage.from) / 1000);
        let _infallible = writeln!(
            text,
            "Killed with SIGKILL: {killed} processes, {} and its sidecar; away for {} ms, caught up {} ms later",
            outage.service.id(),
            away.map_or("?".to_owned(), |away| away.to_string()),
            audit.caught_up().map_or(0, |micros| micros / 1000)
        );
    }
    let lost = audit.lost();
    let line = if placed < orders {
        screen.paint(
            Colour::Red,
            &format!("FAILED: only {placed} of {orders} orders were accepted."),
        )
    } else if lost > 0 {
        screen.paint(
            Colour::Red,
            &format!("FAILED: {lost} of {placed} orders are lost."),
        )
    } else {
        let text =
            format!("Nothing lost: all {placed} orders were billed, notified and shipped at least once.");
        screen.paint(Colour::Green, &text)
    };
    text.push_str(&line);
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::verdict;
    use crate::demo::audit::Audit;
    use crate::demo::ledger::Deed;
    use crate::demo::service::Service;
    use crate::screen::Screen;

    #[test]
    fn the_verdict_says_what_is_missing() {
        let mut audit = Audit::default();
        audit.add(
            Service::Order,
            Deed::Placed {
                order: "a".into(),
                at: 0,
            },
        );
        let text = verdict(Screen::open(true), &audit, 1, 0);
        assert!(text.contains("FAILED: 1 of 1 orders are lost."), "{text}");
        let text = verdict(Screen::open(true), &audit, 2, 0);
        assert!(
            text.contains("FAILED: only 1 of 2 orders were accepted."),
            "{text}"
        );
        for service in Service::ALL {
            audit.add(
                service,
                Deed::Handled {
                    order: "a".into(),
                    event: "e".into(),
                    placed: 0,
                    at: 0,
                },
            );
        }
        let text = verdict(Screen::open(true), &audit, 1, 0);
        assert!(text.contains("Nothing lost: all 1 orders"), "{text}");
    }
}
