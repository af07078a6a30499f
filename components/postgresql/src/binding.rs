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
use outrigger_component::Component;
use outrigger_component::binding::sql::{Aim, OPERATIONS, Statement};
use outrigger_component::binding::{Failed, Invoke, Output, OutputBinding};
use outrigger_component::error::{Error, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::setup::Setup;
use outrigger_daemon::drain;
use outrigger_daemon::tasks::Tasks;
use std::sync::atomic::{AtomicBool, Ordering};
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
        OPERATIONS
    }

    async fn invoke(&self, invoke: Invoke) -> Result<Option<Output>, Failed> {
        if invoke.operation == "close" {
            self.end();
            return Ok(None);
        }
        if self.closed.load(Ordering::Relaxed) {
            return Err(Error::closed().into());
        }
        let statement = Statement::of(&invoke)?;
        let parameters = values::read(statement.parameters)?;
        let sql = Sql::untyped(statement.sql, parameters.len());
        let output = match statement.aim()? {
            Aim::Change => statement.changed(self.execute(&sql, &parameters).await?),
            Aim::Rows => statement.found(self.query(&sql, &parameters).await?),
        };
        Ok(Some(output))
    }
}
