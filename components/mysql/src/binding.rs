//! `bindings.mysql`: statements that the app sends, with their rows as the answer.
//!
//! COMPAT(components-contrib bindings/mysql): operations, metadata of requests and answers, texts; rows are JSON objects
//! ([`rows`]).

mod rows;

use crate::client::{Client, Habits, failed};
use crate::dsn::Dsn;
use bytes::Bytes;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Params, Row, Value};
use outrigger_component::Component;
use outrigger_component::binding::sql::{Aim, OPERATIONS, Statement};
use outrigger_component::binding::{Failed, Invoke, Output, OutputBinding};
use outrigger_component::error::{Error, Result};
use outrigger_component::metadata;
use outrigger_component::options::{NONE, Opt, REQUIRED, opt};
use outrigger_component::setup::Setup;
use serde::Deserialize;
use std::time::Duration;

/// The reference's component has none; one that never answers would keep a connection for ever.
const TIMEOUT: Duration = Duration::from_secs(60);
const CONNECTIONS: usize = 32;
const WHAT: &str = "error executing query";

pub(crate) const OPTIONS: &[Opt] = &[
    opt("url", REQUIRED, "`user:password@tcp(host:port)/database?tls=…`"),
    opt(
        "pemPath",
        NONE,
        "file with the authority's certificate, for `tls=custom`",
    ),
    opt("maxOpenConns", "32", "connections at most"),
    opt("maxIdleConns", "4", "connections that stay open without use"),
    opt("connMaxLifetime", NONE, "connections are closed at this age"),
    opt(
        "connMaxIdleTime",
        "5m",
        "unused connections above `maxIdleConns` are closed after this time",
    ),
];

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Config {
    url: String,
    pem_path: String,
    max_open_conns: i64,
    max_idle_conns: i64,
    #[serde(deserialize_with = "metadata::duration")]
    conn_max_lifetime: Duration,
    #[serde(deserialize_with = "metadata::duration")]
    conn_max_idle_time: Duration,
}

impl Config {
    fn habits(&self) -> Habits {
        let above_zero = |number: i64| usize::try_from(number).ok().filter(|number| *number > 0);
        let mut habits = Habits::new(above_zero(self.max_open_conns).unwrap_or(CONNECTIONS), TIMEOUT);
        if let Some(kept) = above_zero(self.max_idle_conns) {
            habits.kept = kept;
        }
        if !self.conn_max_idle_time.is_zero() {
            habits.max_idle = self.conn_max_idle_time;
        }
        habits.max_age = Some(self.conn_max_lifetime).filter(|age| !age.is_zero());
        habits
    }
}

pub(crate) struct Binding {
    client: Client,
}

impl Binding {
    pub(crate) async fn connect(setup: Setup<Config>) -> Result<Self> {
        let Setup { config, log, .. } = setup;
        if config.url.is_empty() {
            return Err(Error::invalid("missing MySql connection string"));
        }
        let dsn = Dsn::parse(&config.url, &log)?;
        let client = Client::connect(&dsn, &config.pem_path, &config.habits()).await?;
        Ok(Self { client })
    }

    async fn execute(&self, sql: &str, parameters: Vec<Value>) -> Result<u64> {
        self.client
            .within(WHAT, async {
                let mut lane = self.client.lane().await?;
                let done = if parameters.is_empty() {
                    lane.query_drop(sql).await
                } else {
                    lane.exec_drop(sql, Params::Positional(parameters)).await
                };
                done.map_err(failed(WHAT))?;
                Ok(lane.affected_rows())
            })
            .await
    }

    async fn query(&self, sql: &str, parameters: Vec<Value>) -> Result<Bytes> {
        self.client
            .within(WHAT, async {
                let mut lane = self.client.lane().await?;
                let found: Vec<Row> = if parameters.is_empty() {
                    lane.query(sql).await
                } else {
                    lane.exec(sql, Params::Positional(parameters)).await
                }
                .map_err(failed(WHAT))?;
                rows::show(found)
            })
            .await
    }
}

#[async_trait::async_trait]
impl Component for Binding {
    async fn ping(&self) -> Result<()> {
        self.client.ping().await
    }

    async fn close(&self) {
        self.client.close().await;
    }
}

#[async_trait::async_trait]
impl OutputBinding for Binding {
    fn operations(&self) -> &[&'static str] {
        OPERATIONS
    }

    async fn invoke(&self, invoke: Invoke) -> Result<Option<Output>, Failed> {
        if invoke.operation == "close" {
            self.client.close().await;
            return Ok(None);
        }
        self.client.check_open()?;
        let statement = Statement::of(&invoke)?;
        let parameters = rows::parameters(statement.parameters)?;
        let output = match statement.aim()? {
            Aim::Change => {
                let rows = self.execute(statement.sql, parameters).await?;
                statement.changed(rows)
            }
            Aim::Rows => {
                let rows = self.query(statement.sql, parameters).await?;
                statement.found(rows)
            }
        };
        Ok(Some(output))
    }
}
