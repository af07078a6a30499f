//! What users write under `metadata` to reach a database; the same for all components.
//!
//! COMPAT(components-contrib common/authentication/postgresql/metadata.go): names, defaults, texts; metadata of its own
//! (`host`, `user`, …) wins over the same in the connection string.

#[cfg(test)]
mod tests;
mod text;

use crate::tls::{self, Check, Files};
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::{self, Metadata};
use outrigger_component::options::{NONE, Opt, opt};
use outrigger_daemon::log::Log;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZero;
use std::time::Duration;
use tokio_postgres::config::{ChannelBinding, LoadBalanceHosts, SslMode, SslNegotiation, TargetSessionAttrs};

/// The fewest connections of a component.
const CONNECTIONS: usize = 4;
const MAX_IDLE: Duration = Duration::from_secs(30 * 60);
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) const CONNECTION: &[Opt] = &[
    opt(
        "connectionString",
        NONE,
        "`host=… user=… password=… port=… database=…` or `postgres://user:password@host:port/database`; may be left out if the \
         parts are given as metadata",
    )
    .or(&["url"]),
    opt("host", "`localhost`", "host of the server, or a folder with its unix socket; wins over the connection string, as all that follow"),
    opt("hostaddr", NONE, "address of the server, so that `host` is not looked up"),
    opt("port", "5432", "port of the server"),
    opt("user", NONE, "who logs in; needed here or in the connection string"),
    opt("password", NONE, "password of the user"),
    opt("database", "the user's name", "database to use"),
    opt("sslRootCert", NONE, "file with the certificates of authorities (PEM)"),
    opt("timeout", "20s", "for each operation; at least 1s").or(&["timeoutInSeconds"]),
    opt("maxConns", "0", "connections at most; below 2, the greater of 4 and the number of CPUs"),
    opt("connectionMaxIdleTime", "30m", "unused connections are closed after this time"),
    opt(
        "queryExecMode",
        "`cache_statement`",
        "`cache_statement` prepares statements once for each connection; `cache_describe`, `describe_exec`, `exec` and \
         `simple_protocol` never name a statement, so that proxies such as PgBouncer can be between",
    ),
    opt("useAzureAD", "false", "Entra ID: not available"),
    opt("useAWSIAM", "false", "AWS IAM: not available"),
];

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    #[serde(alias = "url")]
    connection_string: String,
    host: String,
    hostaddr: String,
    port: String,
    user: String,
    password: String,
    database: String,
    ssl_root_cert: String,
    max_conns: i64,
    #[serde(deserialize_with = "metadata::duration")]
    connection_max_idle_time: Duration,
    query_exec_mode: String,
    #[serde(rename = "useAzureAD")]
    use_azure_ad: bool,
    #[serde(rename = "useAWSIAM")]
    use_aws_iam: bool,
}

/// How long operations may take, for components with nothing else to say.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Patience {
    #[serde(alias = "timeoutInSeconds", deserialize_with = "metadata::duration")]
    timeout: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { timeout: TIMEOUT }
    }
}

/// How statements reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statements {
    /// Prepared once for each connection.
    Named,
    /// Sent whole each time, for proxies that give each transaction another connection.
    Unnamed,
}

/// A database, and how to use it.
pub(crate) struct Target {
    pub(crate) client: tokio_postgres::Config,
    pub(crate) check: Check,
    pub(crate) files: Files,
    pub(crate) statements: Statements,
    pub(crate) connections: usize,
    pub(crate) max_idle: Duration,
    pub(crate) timeout: Duration,
    /// `host:port`, for messages.
    pub(crate) address: String,
}

impl Target {
    /// # Errors
    /// `Invalid` or `Unsupported`, naming the setting. Never the connection string: it holds a password.
    pub(crate) fn read(metadata: &Metadata, log: &Log) -> Result<Self> {
        let written: Written = metadata::decode(metadata)?;
        for (asked, name, what) in [
            (written.use_azure_ad, "useAzureAD", "Entra ID"),
            (written.use_aws_iam, "useAWSIAM", "AWS IAM"),
        ] {
            if asked {
                return Err(Error::new(
                    Kind::Unsupported,
                    format!(
                        "metadata {name}: {what} authentication to PostgreSQL is not available; log in with a password"
                    ),
                ));
            }
        }
        let Patience { timeout } = metadata::decode(metadata)?;
        if timeout < Duration::from_secs(1) {
            return Err(Error::invalid(
                "invalid value for 'timeout': must be greater than 1s",
            ));
        }
        let mut parts = text::parts(&written.connection_string)?;
        written.overlay(&mut parts);
        if parts.is_empty() {
            return Err(Error::invalid("failed to build connection string"));
        }
        let mut parts = Parts(parts);
        let statements = statements(&parts.take_or("default_query_exec_mode", &written.query_exec_mode))?;
        let connections = written
            .connections()
            .or(parts.number("pool_max_conns")?)
            .unwrap_or_else(default_connections);
        let max_idle = if written.connection_max_idle_time.is_zero() {
            parts.duration("pool_max_conn_idle_time")?.unwrap_or(MAX_IDLE)
        } else {
            written.connection_max_idle_time
        };
        let (mode, check) = parts.tls_mode()?;
        let mut files = Files {
            root: parts.take("sslrootcert").filter(|root| root != "system"),
            certificate: parts.take("sslcert"),
            key: parts.take("sslkey"),
        };
        let check = match check {
            // Who gives an authority wants it to be asked.
            Check::Nothing if files.root.is_some() && mode == SslMode::Require => Check::Authority,
            // Without one there is no difference, but for the better.
            Check::Authority if files.root.is_none() => Check::Host,
            check => check,
        };
        if mode == SslMode::Disable {
            files = Files::default();
        }
        for ours in text::POOL {
            if parts.take(ours).is_some() {
                log.warn(format_args!(
                    "postgresql: {ours} of the connection string has no effect"
                ));
            }
        }
        let (mut client, address) = parts.client(timeout)?;
        client.ssl_mode(mode);
        Ok(Self {
            client,
            check,
            files,
            statements,
            connections,
            max_idle,
            timeout,
            address,
        })
    }

    /// # Errors
    /// Those of reading files.
    pub(crate) async fn tls(&self) -> Result<Option<tls::Maker>> {
        if self.client.get_ssl_mode() == SslMode::Disable {
            return Ok(None);
        }
        let config = tls::config(self.check, &self.files).await?;
        Ok(Some(tls::Maker::new(config)))
    }
}

impl Written {
    fn overlay(&self, parts: &mut BTreeMap<String, String>) {
        let moved = !(self.host.is_empty() && self.hostaddr.is_empty());
        if moved && text::is_url(&self.connection_string) {
            // The port belonged to the other host.
            parts.remove("port");
        }
        for (name, value) in [
            ("host", &self.host),
            ("hostaddr", &self.hostaddr),
            ("port", &self.port),
            ("user", &self.user),
            ("password", &self.password),
            ("dbname", &self.database),
            ("sslrootcert", &self.ssl_root_cert),
        ] {
            if !value.is_empty() {
                parts.insert(name.to_owned(), value.clone());
            }
        }
    }

    /// COMPAT: 1 is as good as nothing.
    fn connections(&self) -> Option<usize> {
        usize::try_from(self.max_conns)
            .ok()
            .filter(|connections| *connections > 1)
    }
}

fn default_connections() -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
    cpus.max(CONNECTIONS)
}

fn statements(mode: &str) -> Result<Statements> {
    match mode {
        "" | "cache_statement" => Ok(Statements::Named),
        "cache_describe" | "describe_exec" | "exec" | "simple_protocol" => Ok(Statements::Unnamed),
        other => Err(Error::invalid(format!(
            "invalid queryExecMode metadata value: {other}"
        ))),
    }
}

/// What the connection string says, each taken once.
struct Parts(BTreeMap<String, String>);

impl Parts {
    fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).filter(|value| !value.is_empty())
    }

    fn take_or(&mut self, name: &str, first: &str) -> String {
        let taken = self.take(name);
        if first.is_empty() {
            taken.unwrap_or_default()
        } else {
            first.to_owned()
        }
    }

    fn number<N: std::str::FromStr>(&mut self, name: &str) -> Result<Option<N>> {
        self.take(name)
            .map(|value| value.parse().map_err(|_| wrong(name, &value)))
            .transpose()
    }

    fn duration(&mut self, name: &str) -> Result<Option<Duration>> {
        let fault = |value: &str| wrong(name, value);
        self.0
            .remove(name)
            .filter(|value| !value.is_empty())
            .map(|value| {
                let text = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(&value);
                metadata::duration(text).map_err(|_| fault(&value))
            })
            .transpose()
    }

    fn tls_mode(&mut self) -> Result<(SslMode, Check)> {
        let mode = self.take("sslmode").unwrap_or_default();
        Ok(match mode.as_str() {
            "disable" => (SslMode::Disable, Check::Nothing),
            "" | "allow" | "prefer" => (SslMode::Prefer, Check::Nothing),
            "require" => (SslMode::Require, Check::Nothing),
            "verify-ca" => (SslMode::Require, Check::Authority),
            "verify-full" => (SslMode::Require, Check::Host),
            other => return Err(wrong("sslmode", other)),
        })
    }

    /// Everything else.
    fn client(mut self, timeout: Duration) -> Result<(tokio_postgres::Config, String)> {
        let mut client = tokio_postgres::Config::new();
        let user = self.take("user").ok_or_else(|| {
            Error::invalid(
                "who logs in to PostgreSQL is not said: set metadata user, or user in the connection string",
            )
        })?;
        client.user(user);
        if let Some(password) = self.take("password") {
            client.password(password);
        }
        if let Some(database) = self.take("dbname") {
            client.dbname(database);
        }
        let addresses = self.take("hostaddr").unwrap_or_default();
        let hosts = self.take("host").unwrap_or_else(|| {
            let unsaid = if addresses.is_empty() {
                "localhost"
            } else {
                &addresses
            };
            unsaid.to_owned()
        });
        for host in hosts.split(',') {
            client.host(host.trim());
        }
        for address in addresses.split(',').filter(|address| !address.is_empty()) {
            let address: IpAddr = address.trim().parse().map_err(|_| wrong("hostaddr", address))?;
            client.hostaddr(address);
        }
        let ports = self.take("port").unwrap_or_else(|| "5432".to_owned());
        for port in ports.split(',') {
            client.port(port.trim().parse().map_err(|_| wrong("port", port))?);
        }
        let address = format!("{hosts}:{ports}");
        let patience = match self.number("connect_timeout")? {
            None | Some(0) => timeout,
            Some(seconds) => Duration::from_secs(seconds),
        };
        client.connect_timeout(patience);
        let application = self
            .take("application_name")
            .or_else(|| self.take("fallback_application_name"));
        client.application_name(application.unwrap_or_else(|| "outrigger".to_owned()));
        self.habits(&mut client)?;
        let options = self.options();
        if !options.is_empty() {
            client.options(options);
        }
        Ok((client, address))
    }

    fn habits(&mut self, client: &mut tokio_postgres::Config) -> Result<()> {
        if let Some(value) = self.take("target_session_attrs") {
            client.target_session_attrs(match value.as_str() {
                "any" | "prefer-standby" => TargetSessionAttrs::Any,
                "read-write" | "primary" => TargetSessionAttrs::ReadWrite,
                "read-only" | "standby" => TargetSessionAttrs::ReadOnly,
                other => return Err(wrong("target_session_attrs", other)),
            });
        }
        if let Some(value) = self.take("channel_binding") {
            client.channel_binding(match value.as_str() {
                "disable" => ChannelBinding::Disable,
                "prefer" => ChannelBinding::Prefer,
                "require" => ChannelBinding::Require,
                other => return Err(wrong("channel_binding", other)),
            });
        }
        if let Some(value) = self.take("load_balance_hosts") {
            client.load_balance_hosts(match value.as_str() {
                "disable" => LoadBalanceHosts::Disable,
                "random" => LoadBalanceHosts::Random,
                other => return Err(wrong("load_balance_hosts", other)),
            });
        }
        if let Some(value) = self.take("sslnegotiation") {
            client.ssl_negotiation(match value.as_str() {
                "postgres" => SslNegotiation::Postgres,
                "direct" => SslNegotiation::Direct,
                other => return Err(wrong("sslnegotiation", other)),
            });
        }
        if self.take("keepalives").is_some_and(|value| value == "0") {
            client.keepalives(false);
        }
        if let Some(seconds) = self.number("keepalives_idle")? {
            client.keepalives_idle(Duration::from_secs(seconds));
        }
        if let Some(seconds) = self.number("keepalives_interval")? {
            client.keepalives_interval(Duration::from_secs(seconds));
        }
        if let Some(count) = self.number("keepalives_count")? {
            client.keepalives_retries(count);
        }
        if let Some(milliseconds) = self.number("tcp_user_timeout")? {
            client.tcp_user_timeout(Duration::from_millis(milliseconds));
        }
        Ok(())
    }

    /// What is left are the server's own settings for the session.
    fn options(mut self) -> String {
        let mut options: Vec<String> = self.take("options").into_iter().collect();
        for (name, value) in self.0 {
            let value = value.replace('\\', "\\\\").replace(' ', "\\ ");
            options.push(format!("-c {name}={value}"));
        }
        options.join(" ")
    }
}

fn wrong(name: &str, value: &str) -> Error {
    Error::invalid(format!("{name} of the PostgreSQL connection cannot be {value:?}"))
}

/// Names of tables go into statements as they are.
pub(crate) fn table(setting: &str, name: &str) -> Result<String> {
    let plain = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|character| character.is_alphanumeric() || matches!(character, '_' | '$'))
    };
    let quoted = |part: &str| {
        part.strip_prefix('"')
            .and_then(|part| part.strip_suffix('"'))
            .is_some_and(|part| !part.is_empty() && !part.contains(['"', '\0']))
    };
    let parts: Vec<&str> = name.split('.').collect();
    if parts.len() <= 3 && parts.iter().all(|part| plain(part) || quoted(part)) {
        return Ok(name.to_owned());
    }
    Err(Error::invalid(format!(
        "metadata {setting}: {name:?} is no name of a table; write it as table or schema.table"
    )))
}
