//! What resiliency policies do, as log lines and metrics.

use outrigger_daemon::log::Log;
use outrigger_daemon::metrics::{Applied, Direction, Policy, Resiliency};
use outrigger_resiliency::event::{Event, Level, Observer, Part, Usage};
use outrigger_resiliency::policies::Flow;

pub(crate) struct Observed {
    pub(crate) log: Log,
    pub(crate) metrics: Resiliency,
}

impl Observer for Observed {
    fn observe(&self, event: &Event<'_>) {
        for (level, line) in event.lines() {
            match level {
                Level::Debug => self.log.debug(line),
                Level::Info => self.log.info(line),
                Level::Warn => self.log.warn(line),
                Level::Error => self.log.error(line),
            }
        }
        match event {
            Event::Loaded { resource, namespace } => self.metrics.loaded(resource, namespace),
            Event::Applied(usage) => self.metrics.executed(applied(usage, &usage.target.to_string())),
            Event::Activated(usage) => self.metrics.activated(applied(usage, &usage.target.to_string())),
            _ => {}
        }
    }
}

fn applied<'a>(usage: &Usage<'a>, target: &'a str) -> Applied<'a> {
    Applied {
        name: usage.resource,
        namespace: usage.namespace,
        policy: match usage.part {
            Part::Timeout => Policy::Timeout,
            Part::Retry => Policy::Retry,
            Part::CircuitBreaker => {
                Policy::CircuitBreaker(usage.state.map_or("unknown", |state| state.as_str()))
            }
        },
        direction: match usage.flow {
            Flow::Inbound => Direction::Inbound,
            Flow::Outbound => Direction::Outbound,
        },
        target,
    }
}
