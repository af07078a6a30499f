//! `Control`: status and shutdown.

use super::status;
use crate::broker::Broker;
use crate::config::Fsync;
use crate::dispatch::Report;
use outrigger_daemon::version;
use outrigger_proto::hub::v1;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tonic::{Request, Response, Status};

pub(super) struct Service(pub(super) Arc<Broker>);

#[tonic::async_trait]
impl v1::control_server::Control for Service {
    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        let parts = self.0.parts();
        let mut reports = self.0.reports().await;
        let rows = parts
            .commit
            .look(|catalog| (catalog.topics.clone(), catalog.groups.clone()))
            .await
            .map_err(|failure| status(&failure))?;
        let mut topics: BTreeMap<u32, v1::Topic> = BTreeMap::new();
        for (id, row) in rows.0 {
            let (first, next) = parts
                .topics
                .get(id)
                .map_or((row.next, row.next), |topic| topic.range());
            topics.insert(
                id,
                v1::Topic {
                    name: row.name,
                    first_offset: first,
                    next_offset: next,
                    groups: Vec::new(),
                },
            );
        }
        for (id, row) in rows.1 {
            let Some(topic) = topics.get_mut(&row.topic) else {
                continue;
            };
            // A group that nobody consumed since the start is where its logged cursor says.
            let report = reports.remove(&id).unwrap_or_else(|| Report {
                lag: topic.next_offset.saturating_sub(row.cursor.next) + row.cursor.open.len() as u64,
                ..Report::default()
            });
            topic.groups.push(v1::Group {
                name: row.name,
                members: u32::try_from(report.members).unwrap_or(u32::MAX),
                lag: report.lag,
                in_flight: report.in_flight,
                stalled: report.stalled.unwrap_or_default(),
            });
        }
        Ok(Response::new(v1::StatusResponse {
            version: version::VERSION.to_owned(),
            pid: u64::from(std::process::id()),
            home: parts.config.home.display().to_string(),
            started_ms: self.0.started(),
            connections: *parts.connections.borrow(),
            fsync: match parts.config.fsync {
                Fsync::Always => "always".to_owned(),
                Fsync::Interval(interval) => format!("interval {interval:?}"),
            },
            disk: Some(self.disk()),
            topics: topics.into_values().collect(),
            instances: parts.names.all(),
            write_error: [&parts.health.log, &parts.health.engine]
                .iter()
                .filter_map(|trouble| trouble.get())
                .collect::<Vec<_>>()
                .join("; "),
            counters: Some(self.counters()),
        }))
    }

    async fn shutdown(
        &self,
        _: Request<v1::ShutdownRequest>,
    ) -> Result<Response<v1::ShutdownResponse>, Status> {
        self.0.parts().log.info("somebody asked the hub to end");
        self.0.parts().end.fire();
        Ok(Response::new(v1::ShutdownResponse {}))
    }
}

impl Service {
    fn disk(&self) -> v1::Disk {
        let parts = self.0.parts();
        let segments = parts.segments.all();
        let engine = parts.kv.engine();
        v1::Disk {
            log_bytes: segments.iter().map(|segment| segment.readable()).sum(),
            log_segments: u32::try_from(segments.len()).unwrap_or(u32::MAX),
            engine_bytes: engine.bytes(),
            // A file system that does not say counts as full, which is visible.
            free_bytes: engine.free().unwrap_or(0),
        }
    }

    fn counters(&self) -> v1::Counters {
        let counters = &self.0.parts().health.counters;
        v1::Counters {
            published: counters.published.load(Ordering::Relaxed),
            delivered: counters.delivered.load(Ordering::Relaxed),
            redelivered: counters.redelivered.load(Ordering::Relaxed),
            expired: counters.expired.load(Ordering::Relaxed),
            writes: counters.writes.load(Ordering::Relaxed),
            commits: counters.commits.load(Ordering::Relaxed),
            dropped: counters.dropped.load(Ordering::Relaxed),
        }
    }
}
