//! B16: three times as much as an app can do, for a minute. What is begun gets done, the excess is refused with 503 and
//! `Retry-After`, and memory stays where it was.
//!
//! The app is the bottleneck: it has so many workers, and each call takes one for a while. So the capacity does not depend on
//! how fast the machine is, and the generator has cores to spare. First the peak, with just enough callers; then an open
//! loop that goes on whether or not it is answered.

use std::time::Duration;

use anyhow::Result;

use crate::app::{WORK_PATH, WORKERS};
use crate::contender::{Contender, Stage};
use crate::load::Pace;
use crate::meter::resident;
use crate::report::{GOODPUT, GROWTH, OFFERED, REFUSED, Row};
use crate::request::Source;
use crate::round::{Case, Cast, Round, Settings};
use crate::scenario::first_answer;
use crate::server::Broker;
use crate::subscriber::App;

const SCENARIO: &str = "B16";
const FACTOR: f64 = 3.0;
/// At least so long.
const LASTING: Duration = Duration::from_secs(60);
/// What a sidecar that can be told works on at once: enough that the app is never idle.
const LIMIT: usize = 4 * WORKERS;
/// More than are worked on: the others are refused at once, and send again.
const CALLERS: usize = 4 * LIMIT;

impl Round<'_> {
    pub(crate) async fn overload(&self, contender: &Contender) -> Result<Vec<Row>> {
        let stage = Stage::new(contender, Broker::InMemory, self.servers).await?;
        let app = App::start(None, stage.folder()).await?;
        let id = self.app_id("worker");
        let flags = match contender.knows("--max-concurrent-requests").await? {
            true => vec![format!("--max-concurrent-requests={LIMIT}")],
            false => Vec::new(),
        };
        let sidecar = stage
            .sidecar_with("sidecar", &id, Some(app.address), &flags)
            .await?;
        let path = format!("/v1.0/invoke/{id}/method{WORK_PATH}");
        first_answer(&sidecar, &path).await?;
        let source = Source::work(&path);
        let cast = Cast {
            target: sidecar.http,
            contender: vec![sidecar.process.member()],
            app: Some(&app),
        };
        let peak = Case {
            scenario: SCENARIO,
            name: format!("an app with {WORKERS} workers of 20 ms, {} callers", 2 * WORKERS),
            source: &source,
            pace: Pace::Max,
            connections: 2 * WORKERS,
        };
        let calm = self.load(&peak, &cast, 0).await?;
        let mut rows = vec![self.row(&peak, &calm)];
        let before = resident(sidecar.process.pid())?;

        let settings = Settings {
            measured: self.settings.measured.max(LASTING),
            ..self.settings.clone()
        };
        let lasting = Round {
            settings: &settings,
            ..*self
        };
        let offered = (calm.outcome.rate * FACTOR).round();
        let flood = Case {
            name: format!("the same app, {FACTOR} times as many calls, {LASTING:?}"),
            // Saturating: a rate is far below.
            pace: Pace::Rate(offered as u32),
            connections: CALLERS,
            ..peak
        };
        let seen = lasting.load(&flood, &cast, calm.outcome.next).await?;
        let mut row = lasting.row(&flood, &seen);
        let most = seen.usage.resident.values().max().copied().unwrap_or_default();
        row.figures.extend([
            (OFFERED, offered),
            (
                GOODPUT,
                100.0 * seen.outcome.rate / calm.outcome.rate.max(f64::MIN_POSITIVE),
            ),
            (REFUSED, seen.outcome.refused as f64),
            (GROWTH, most.saturating_sub(before) as f64 / 1024.0),
        ]);
        rows.push(row);
        sidecar.process.kill().await?;
        app.process.kill().await?;
        Ok(rows)
    }
}
