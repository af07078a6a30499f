//! `bindings.postgresql`: statements that the app sends, with their rows as the answer.
//!
//! COMPAT(components-contrib bindings/postgres): operations, metadata of requests and answers, texts. Parameters are JSON and
//! become what the statement wants there ([`values`]), rows become JSON ([`rows`]).

mod rows;
mod values;

use crate::config::Target;
use crate::pool::{Lane, Pool, Sql, Value, failed, within};
use bytes::Bytes;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use outrigger_component::Component;
use outrigger_component::binding::{Failed, Invoke, Output, OutputBinding};
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::setup::Setup;
use outrigger_daemon::drain;
use outrigger_daemon::tasks::Tasks;
use outrigger_resources::go;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::Instant;
use values::Parameter;

const WHAT: &str = "error executing query";

pub(crate) struct Binding {
    pool: Pool,
    closed: AtomicBool,
    /// Owns connections.
    _tasks: Tasks,
}

impl Binding {
    pub(crate) async fn connect(setup: Setup<Metadata>) -> Result<Self> {
        let tasks = Tasks::new(&setup.log, drain::channel().0);
        let target = Target::read(&setup.metadata, &setup.log)?;
        let pool = Pool::connect(target, tasks.spawner(), &setup.log).await?;
        Ok(Self {
            pool,
            closed: AtomicBool::new(false),
            _tasks: tasks,
        })
    }

    fn end(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.pool.close();
    }

    async fn execute(&self, sql: &Sql, parameters: &[Parameter]) -> Result<u64> {
        within(self.pool.timeout(), WHAT, async {
            let mut lane = self.pool.lane().await?;
            let rows = lane.run(sql, &borrowed(parameters)).await;
            lane.give_back();
            rows.map_err(failed(WHAT))
        })
        .await
    }

    async fn query(&self, sql: &Sql, parameters: &[Parameter]) -> Result<Bytes> {
        within(self.pool.timeout(), WHAT, async {
            let mut lane = self.pool.lane().await?;
            let shown = shown(&mut lane, sql, parameters).await;
            lane.give_back();
            shown
        })
        .await
    }
}

/// Rows as they come.
async fn shown(lane: &mut Lane, sql: &Sql, parameters: &[Parameter]) -> Result<Bytes> {
    let ready = lane.ready(sql).await.map_err(failed(WHAT))?;
    let found = lane.stream(&ready, &borrowed(parameters)).await;
    let mut found = std::pin::pin!(found.map_err(failed(WHAT))?);
    let mut shown = vec![b'['];
    while let Some(row) = found.try_next().await.map_err(failed(WHAT))? {
        if shown.len() > 1 {
            shown.push(b',');
        }
        rows::show(&row, &mut shown)?;
    }
    shown.push(b']');
    Ok(Bytes::from(shown))
}

fn borrowed(parameters: &[Parameter]) -> Vec<Value<'_>> {
    parameters
        .iter()
        .map(|parameter| parameter as Value<'_>)
        .collect()
}

#[async_trait::async_trait]
impl Component for Binding {
    async fn ping(&self) -> Result<()> {
        self.pool.ping().await
    }

    async fn close(&self) {
        self.end();
    }
}

#[async_trait::async_trait]
impl OutputBinding for Binding {
    fn operations(&self) -> &[&'static str] {
        &["exec", "query", "close"]
    }

    async fn invoke(&self, invoke: Invoke) -> Result<Option<Output>, Failed> {
        if invoke.operation == "close" {
            self.end();
            return Ok(None);
        }
        if self.closed.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Unavailable, "component is closed").into());
        }
        let text = invoke.metadata.get("sql").filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| Error::invalid("required metadata not set: sql"))?;
        let parameters = values::read(invoke.metadata.get("params").unwrap_or_default())?;
        let sql = Sql::untyped(text, parameters.len());
        let (began, clock) = (Timestamp::now(), Instant::now());
        let mut metadata: Metadata = [("operation", invoke.operation.as_str()), ("sql", text)]
            .into_iter()
            .collect();
        let mut data = Bytes::new();
        match invoke.operation.as_str() {
            "exec" => {
                let rows = self.execute(&sql, &parameters).await?;
                metadata.insert("rows-affected", rows.to_string());
            }
            "query" => data = self.query(&sql, &parameters).await?,
            other => {
                let text = format!("invalid operation type: {other}. Expected exec, query, or close");
                return Err(Error::invalid(text).into());
            }
        }
        metadata.insert("start-time", began.to_string());
        metadata.insert("end-time", Timestamp::now().to_string());
        metadata.insert("duration", go::format_duration(clock.elapsed()));
        Ok(Some(Output { data, metadata }))
    }
}
