//! From flags and environment to one [`Config`] without holes. The only place of the sidecar that looks at the
//! environment, through [`Environment`], which the executable fills.

use crate::flags::Flags;
use outrigger_resources::go;
use sha2::{Digest, Sha256};
use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const DEFAULT_BODY_LIMIT: usize = 4 << 20;
const DEFAULT_HEADER_LIMIT: usize = 4 << 10;
/// First of the ports derived from the app id. COMPAT(pkg/runtime/config.go, dapr/kit ports).
const FIRST_INTERNAL_PORT: u16 = 47300;

/// Reads one variable.
pub type Lookup = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The process's environment as a value: variables and a few facts about the machine.
#[derive(Clone)]
pub struct Environment {
    lookup: Lookup,
    pub working_directory: String,
    pub host_name: String,
    pub user_id: u32,
}

impl Environment {
    pub fn new(
        lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
        working_directory: String,
        host_name: String,
        user_id: u32,
    ) -> Self {
        Self {
            lookup: Arc::new(lookup),
            working_directory,
            host_name,
            user_id,
        }
    }

    /// A variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    /// The lookup itself, for expansion in resources.
    pub fn lookup(&self) -> Lookup {
        self.lookup.clone()
    }
}

/// A token; never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "***" })
    }
}

/// How the app is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Https,
    H2c,
    Grpc,
    Grpcs,
}

impl Protocol {
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2c => "h2c",
            Self::Grpc => "grpc",
            Self::Grpcs => "grpcs",
        }
    }

    pub fn is_grpc(self) -> bool {
        matches!(self, Self::Grpc | Self::Grpcs)
    }

    /// With TLS. COMPAT(pkg/runtime/channels/channels.go): an app beside its sidecar may show any certificate.
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Https | Self::Grpcs)
    }
}

/// The app beside us.
#[derive(Debug, Clone)]
pub struct App {
    pub host: String,
    pub port: u16,
    pub protocol: Protocol,
    pub max_concurrency: Option<usize>,
    pub health: Option<Health>,
    pub health_path: String,
    pub health_timeout: Duration,
}

/// Health probes of the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    pub interval: Duration,
    pub timeout: Duration,
    /// Failures in a row until the app counts as unhealthy.
    pub threshold: u32,
}

/// Where the public APIs listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// Hosts without port; at least one. An empty host is every interface.
    Tcp(Vec<String>),
    /// A folder of sockets.
    Unix(PathBuf),
}

/// What a sidecar needs to know. Printed, with secrets hidden, at start with log level debug.
#[derive(Debug, Clone)]
pub struct Config {
    pub app_id: String,
    /// From `NAMESPACE`; empty when not set, which some rules tell from `default`.
    pub namespace_variable: String,
    pub app: Option<App>,
    /// How the app is spoken to, or would be.
    pub protocol: Protocol,
    pub listen: Listen,
    pub http_port: u16,
    pub grpc_port: u16,
    pub internal_port: Internal,
    pub internal_host: String,
    pub public: Option<(String, u16)>,
    pub metrics: Option<(String, u16)>,
    pub profile_port: u16,
    pub resources: Vec<PathBuf>,
    pub configurations: Vec<PathBuf>,
    pub allowed_origins: String,
    pub body_limit: usize,
    /// How long a request body may pause.
    pub body_patience: Option<Duration>,
    pub header_limit: usize,
    pub graceful: Duration,
    pub block: Option<Duration>,
    /// `None`: as the Configuration says.
    pub api_logging: Option<bool>,
    pub skip_subscribe: bool,
    /// The app is not to be asked for its configuration (of actors).
    pub skip_configuration: bool,
    /// `None` is no limit.
    pub max_requests: Option<usize>,
    /// How long the app may take to say whether it wants the events of an input binding.
    pub binding_probe_timeout: Duration,
    pub api_token: Token,
    pub app_token: Token,
    pub disable_h2c: bool,
    pub host_address: String,
    /// Whether somebody chose `host_address`.
    pub host_given: bool,
    pub host_name: String,
    pub pod_name: String,
    pub env_keys: String,
    pub hub_socket: Option<PathBuf>,
}

/// Port for other sidecars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Internal {
    Exactly(u16),
    /// This one if it is free, else any.
    Preferably(u16),
}

/// Why the sidecar cannot start as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("app-id must be set: give the app a unique name with --app-id")]
    NoAppId,
    #[error("invalid app-id {0:?}: dots are not allowed")]
    DottedAppId(String),
    #[error("error parsing {flag}: {value:?} is not a port number (0 to 65535)")]
    Port { flag: &'static str, value: String },
    #[error("the '{flag}' argument value {port} conflicts with 'app-port'")]
    Conflict { flag: &'static str, port: u16 },
    #[error("invalid value for '{flag}' option: {reason}")]
    Value { flag: &'static str, reason: String },
    #[error("{0} is not available in this version of Outrigger")]
    Missing(&'static str),
}

impl Config {
    /// Resolves the command line. The texts are warnings for the log: options that have no effect yet.
    pub fn resolve(flags: Flags, environment: &Environment) -> Result<(Self, Vec<String>), Error> {
        refuse(&flags)?;
        let warnings = warnings(&flags, environment);
        if flags.app_id.is_empty() {
            return Err(Error::NoAppId);
        }
        if flags.app_id.contains('.') {
            return Err(Error::DottedAppId(flags.app_id));
        }
        let http_port = port("dapr-http-port", &flags.dapr_http_port)?;
        let grpc_port = port("dapr-grpc-port", &flags.dapr_grpc_port)?;
        let protocol = protocol(&flags)?;
        let app = app(&flags, protocol)?;
        if let Some(app) = &app {
            for (flag, own) in [("dapr-http-port", http_port), ("dapr-grpc-port", grpc_port)] {
                if app.port == own {
                    return Err(Error::Conflict { flag, port: own });
                }
            }
        }
        let internal_port = match flags.dapr_internal_grpc_port.as_str() {
            "" | "0" => Internal::Preferably(stable_port(&flags.app_id, environment)),
            given => Internal::Exactly(port("dapr-internal-grpc-port", given)?),
        };
        let public = match flags.dapr_public_port.as_str() {
            "" => None,
            given => Some((
                flags.dapr_public_listen_address.clone(),
                port("dapr-public-port", given)?,
            )),
        };
        let metrics = if flags.enable_metrics {
            Some((
                flags.metrics_listen_address.clone(),
                port("metrics-port", &flags.metrics_port)?,
            ))
        } else {
            None
        };
        let resources = if flags.resources_path.is_empty() && !flags.components_path.is_empty() {
            vec![flags.components_path.clone()]
        } else {
            flags.resources_path.clone()
        };
        let config = Self {
            namespace_variable: environment.get("NAMESPACE").unwrap_or_default(),
            app,
            protocol,
            listen: listen(&flags),
            http_port,
            grpc_port,
            internal_port,
            internal_host: flags.dapr_internal_grpc_listen_address.clone(),
            public,
            metrics,
            profile_port: port("profile-port", &flags.profile_port)?,
            resources: paths(&resources),
            configurations: paths(&flags.config),
            allowed_origins: flags.allowed_origins.clone(),
            body_patience: Some(flags.request_body_idle_timeout).filter(|patience| !patience.is_zero()),
            body_limit: size(
                ("max-body-size", flags.max_body_size.as_deref()),
                flags.dapr_http_max_request_size.map(|megabytes| (megabytes, 20)),
                DEFAULT_BODY_LIMIT,
            )?,
            header_limit: size(
                ("read-buffer-size", flags.read_buffer_size.as_deref()),
                flags.dapr_http_read_buffer_size.map(|kilobytes| (kilobytes, 10)),
                DEFAULT_HEADER_LIMIT,
            )?,
            graceful: Duration::from_secs(u64::try_from(flags.dapr_graceful_shutdown_seconds).unwrap_or(5)),
            block: flags.dapr_block_shutdown_duration,
            api_logging: flags.enable_api_logging,
            // COMPAT: zero or less means the default, 3 s.
            binding_probe_timeout: match flags.app_binding_options_timeout {
                Duration::ZERO => Duration::from_secs(3),
                asked => asked,
            },
            skip_subscribe: flags
                .disable_init_endpoints
                .iter()
                .any(|endpoint| endpoint == "subscribe"),
            skip_configuration: flags
                .disable_init_endpoints
                .iter()
                .any(|endpoint| endpoint == "config"),
            max_requests: Some(flags.max_concurrent_requests).filter(|most| *most > 0),
            api_token: Token(environment.get("DAPR_API_TOKEN").unwrap_or_default()),
            app_token: Token(environment.get("APP_API_TOKEN").unwrap_or_default()),
            disable_h2c: environment
                .get("DAPR_HTTP_DISABLE_H2C")
                .is_some_and(|text| go::boolean(&text).unwrap_or(true)),
            host_given: environment.get("DAPR_HOST_IP").is_some(),
            host_address: environment.get("DAPR_HOST_IP").unwrap_or_else(host_address),
            host_name: environment.host_name.clone(),
            pod_name: environment.get("POD_NAME").unwrap_or_default(),
            env_keys: environment.get("DAPR_ENV_KEYS").unwrap_or_default(),
            hub_socket: flags
                .hub_socket
                .clone()
                .or_else(|| environment.get("OUTRIGGER_HUB_SOCKET").map(PathBuf::from)),
            app_id: flags.app_id,
        };
        Ok((config, warnings))
    }

    /// `NAMESPACE`, or `default`.
    pub fn namespace(&self) -> &str {
        if self.namespace_variable.is_empty() {
            "default"
        } else {
            &self.namespace_variable
        }
    }
}

/// What must not be silently left out, because somebody relies on it for safety.
fn refuse(flags: &Flags) -> Result<(), Error> {
    if flags.mode != "standalone" {
        return match flags.mode.as_str() {
            "kubernetes" => Err(Error::Missing("--mode=kubernetes")),
            other => Err(Error::Value {
                flag: "mode",
                reason: format!("{other:?} is neither standalone nor kubernetes"),
            }),
        };
    }
    if flags.enable_mtls {
        return Err(Error::Missing("--enable-mtls (encryption between sidecars)"));
    }
    if flags.actors_disseminate_timeout.is_zero() {
        return Err(Error::Value {
            flag: "actors-disseminate-timeout",
            reason: format!(
                "must be positive, got {}",
                go::format_duration(flags.actors_disseminate_timeout)
            ),
        });
    }
    Ok(())
}

/// Options that are accepted but have nothing behind them yet; one line each.
fn warnings(flags: &Flags, environment: &Environment) -> Vec<String> {
    let given = [
        (
            !flags.placement_host_address.is_empty(),
            "--placement-host-address",
            "actors",
        ),
        (
            !flags.scheduler_host_address.is_empty(),
            "--scheduler-host-address",
            "jobs and reminders",
        ),
        (
            !flags.sentry_address.is_empty(),
            "--sentry-address",
            "the certificate authority client",
        ),
        (
            !flags.sentry_request_jwt_audiences.is_empty(),
            "--sentry-request-jwt-audiences",
            "the certificate authority client",
        ),
        (
            !flags.control_plane_address.is_empty(),
            "--control-plane-address",
            "the operator client",
        ),
        (
            flags.control_plane_namespace.is_some(),
            "--control-plane-namespace",
            "the control plane client",
        ),
        (
            flags.control_plane_trust_domain.is_some(),
            "--control-plane-trust-domain",
            "the control plane client",
        ),
        (
            flags.scheduler_job_streams != 3,
            "--scheduler-job-streams",
            "jobs",
        ),
        (
            !flags.actors_service.is_empty(),
            "--actors-service",
            "actors (and the flag is deprecated)",
        ),
        (
            !flags.reminders_service.is_empty(),
            "--reminders-service",
            "reminders (and the flag is deprecated)",
        ),
        (
            flags.actors_disseminate_timeout != Duration::from_secs(30),
            "--actors-disseminate-timeout",
            "actors",
        ),
        (flags.enable_profiling, "--enable-profiling", "profiling"),
        (
            !flags.hot_reload_reconcile_interval.is_zero(),
            "--hot-reload-reconcile-interval",
            "hot reload",
        ),
        (
            flags.disable_builtin_k8s_secret_store,
            "--disable-builtin-k8s-secret-store",
            "the Kubernetes secret store",
        ),
        (
            environment.get("DAPR_TRUST_ANCHORS").is_some(),
            "DAPR_TRUST_ANCHORS",
            "encryption between sidecars",
        ),
    ];
    given
        .into_iter()
        .filter(|(set, ..)| *set)
        .map(|(_, option, feature)| {
            format!("{option} has no effect: {feature} is not available in this version of Outrigger")
        })
        .collect()
}

/// COMPAT(pkg/runtime/config.go): `--app-ssl` turns http and grpc into their encrypted forms.
fn protocol(flags: &Flags) -> Result<Protocol, Error> {
    Ok(
        match (flags.app_protocol.to_ascii_lowercase().as_str(), flags.app_ssl) {
            ("http", false) | ("", _) => Protocol::Http,
            ("https", _) | ("http", true) => Protocol::Https,
            ("h2c", _) => Protocol::H2c,
            ("grpc", false) => Protocol::Grpc,
            ("grpcs", _) | ("grpc", true) => Protocol::Grpcs,
            (other, _) => {
                return Err(Error::Value {
                    flag: "app-protocol",
                    reason: format!("{other:?} is none of http, https, h2c, grpc, grpcs"),
                });
            }
        },
    )
}

fn app(flags: &Flags, protocol: Protocol) -> Result<Option<App>, Error> {
    if flags.app_port.is_empty() || flags.app_port == "0" {
        return Ok(None);
    }
    // Zero means "default", as the reference's own tests rely on.
    let or_default = |given: i64, default: u64| {
        u64::try_from(given)
            .ok()
            .filter(|given| *given > 0)
            .unwrap_or(default)
    };
    let interval = Duration::from_secs(or_default(flags.app_health_probe_interval, 5));
    let timeout = Duration::from_millis(or_default(flags.app_health_probe_timeout, 500));
    if flags.enable_app_health_check && timeout > interval {
        return Err(Error::Value {
            flag: "app-health-probe-timeout",
            reason: "value for 'health-probe-timeout' must be smaller than 'health-probe-interval'"
                .to_owned(),
        });
    }
    Ok(Some(App {
        host: flags.app_channel_address.clone(),
        port: port("app-port", &flags.app_port)?,
        protocol,
        max_concurrency: usize::try_from(flags.app_max_concurrency)
            .ok()
            .filter(|most| *most > 0),
        health: flags.enable_app_health_check.then(|| Health {
            interval,
            timeout,
            threshold: u32::try_from(or_default(flags.app_health_threshold, 3)).unwrap_or(3),
        }),
        health_path: flags.app_health_check_path.clone(),
        health_timeout: timeout,
    }))
}

fn listen(flags: &Flags) -> Listen {
    if !flags.unix_domain_socket.is_empty() {
        return Listen::Unix(PathBuf::from(&flags.unix_domain_socket));
    }
    let mut hosts: Vec<String> = flags
        .dapr_listen_addresses
        .split(',')
        .map(str::trim)
        .filter(|host| !host.is_empty())
        .map(str::to_owned)
        .collect();
    if hosts.is_empty() {
        hosts.push(String::new());
    }
    Listen::Tcp(hosts)
}

fn port(flag: &'static str, value: &str) -> Result<u16, Error> {
    value.parse().map_err(|_| Error::Port {
        flag,
        value: value.to_owned(),
    })
}

fn paths(texts: &[String]) -> Vec<PathBuf> {
    texts
        .iter()
        .filter(|text| !text.is_empty())
        .map(PathBuf::from)
        .collect()
}

/// A size in bytes from a quantity, else from its deprecated twin (a number and the power of two of its unit).
/// `-1` is the default limit. COMPAT(pkg/runtime/config.go): "unlimited" never was.
fn size(
    quantity: (&'static str, Option<&str>),
    legacy: Option<(i64, u32)>,
    default: usize,
) -> Result<usize, Error> {
    let (flag, text) = quantity;
    let invalid = |reason: String| Error::Value { flag, reason };
    match (text, legacy) {
        (Some("-1"), _) => Ok(default),
        (Some(text), _) => {
            let bytes = go::quantity::parse(text).map_err(|error| invalid(error.to_string()))?;
            usize::try_from(bytes).map_err(|_| invalid(format!("{text} is too large")))
        }
        (None, Some((number, power))) => match usize::try_from(number) {
            Ok(number) if number > 0 => number
                .checked_mul(1 << power)
                .ok_or_else(|| invalid(format!("{number} is too large"))),
            _ => Ok(default),
        },
        (None, None) => Ok(default),
    }
}

/// The port an app id prefers on this machine, so that a restarted sidecar is found at the same place.
/// COMPAT(dapr/kit ports/ports.go): first 16 bits, little endian, of SHA-256 over id, folder, user and host.
fn stable_port(app_id: &str, environment: &Environment) -> u16 {
    let base = format!(
        "{app_id}|{}|{}|{}",
        environment.working_directory, environment.user_id, environment.host_name
    );
    let digest = Sha256::digest(base.as_bytes());
    let number = u16::from_le_bytes([digest[0], digest[1]]);
    FIRST_INTERNAL_PORT + number % (u16::MAX - FIRST_INTERNAL_PORT)
}

/// The address other machines see: the source address of a datagram towards the documentation range, which is
/// never sent. COMPAT(pkg utils/host.go).
fn host_address() -> String {
    let towards = |from: &str, to: &str| -> Option<String> {
        let socket = std::net::UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip().to_string())
    };
    towards("0.0.0.0:0", "192.0.2.1:80")
        .or_else(|| towards("[::]:0", "[2001:db8::1]:80"))
        .unwrap_or_else(|| "127.0.0.1".to_owned())
}

/// `host:port`, with brackets where an IPv6 address needs them; an empty host is every interface.
pub fn address(host: &str, port: u16) -> String {
    match host {
        "" => format!("[::]:{port}"),
        host if host.parse::<Ipv6Addr>().is_ok() => format!("[{host}]:{port}"),
        host => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests;
