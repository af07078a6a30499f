//! The command line of `daprd`: every flag of the reference with its spelling, default and quirks.
//!
//! COMPAT(cmd/daprd/options/options.go): flags may have one dash or two; a flag's value may begin with a
//! dash; boolean flags take a value only behind `=`.

use clap::{ArgAction, Parser};
use outrigger_resources::go;
use std::ffi::OsString;
use std::time::Duration;

/// Everything as typed. What it means is decided in [`config`](crate::config).
#[derive(Debug, Parser)]
#[command(
    name = "daprd",
    disable_version_flag = true,
    about = "The Outrigger sidecar: runs beside an app and gives it the Dapr API over HTTP and gRPC",
    long_about = "The Outrigger sidecar: runs beside an app and gives it the Dapr API over HTTP and gRPC.\n\n\
        Flags, defaults and environment variables are those of Dapr 1.18's daprd. For development, `outrigger run` starts \
        a sidecar together with its app.",
    after_help = "Exit codes: 0 clean stop, 1 failed start or forced stop, 2 wrong usage."
)]
pub struct Flags {
    /// A unique id of the app: used for service discovery and as prefix of state keys
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub app_id: String,

    /// The port the app listens on; without it nothing is delivered to the app
    #[arg(long, default_value = "", value_name = "PORT")]
    pub app_port: String,

    /// How the app is spoken to: http, https, h2c, grpc, grpcs
    #[arg(long, default_value = "http")]
    pub app_protocol: String,

    /// Deprecated: use --app-protocol https|grpcs
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = go_bool, action = ArgAction::Set)]
    pub app_ssl: bool,

    /// The host the app listens on
    #[arg(long, default_value = "127.0.0.1")]
    pub app_channel_address: String,

    /// How many calls the app gets at once; -1 is no limit
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    pub app_max_concurrency: i64,

    /// How many requests each API, and the one for other sidecars, works on at once; 0 is no limit
    #[arg(long, default_value_t = 4096)]
    pub max_concurrent_requests: usize,

    /// How long a request body may pause while the API waits for more of it; 0 is no limit
    #[arg(long, default_value = "1m", value_parser = go_duration)]
    pub request_body_idle_timeout: Duration,

    /// Time limit for asking the app whether it serves an input binding
    #[arg(long, default_value = "3s", value_parser = go_duration)]
    pub app_binding_options_timeout: Duration,

    /// Port of the HTTP API
    #[arg(long, default_value = "3500", value_name = "PORT")]
    pub dapr_http_port: String,

    /// Port of the gRPC API
    #[arg(long, default_value = "50001", value_name = "PORT")]
    pub dapr_grpc_port: String,

    /// Port for other sidecars; by default derived from the app id, or a free one when that is taken
    #[arg(long, default_value = "", value_name = "PORT")]
    pub dapr_internal_grpc_port: String,

    /// Address for other sidecars; all interfaces when empty
    #[arg(long, default_value = "")]
    pub dapr_internal_grpc_listen_address: String,

    /// Addresses of the HTTP and gRPC API, separated by commas; all interfaces when empty
    #[arg(long, default_value = "")]
    pub dapr_listen_addresses: String,

    /// Port of a second HTTP server with only health and metadata
    #[arg(long, default_value = "", value_name = "PORT")]
    pub dapr_public_port: String,

    /// Address of that server
    #[arg(long, default_value = "")]
    pub dapr_public_listen_address: String,

    /// Port of the profiling server
    #[arg(long, default_value = "7777", value_name = "PORT")]
    pub profile_port: String,

    /// Serve profiles on the profile port
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = go_bool, action = ArgAction::Set)]
    pub enable_profiling: bool,

    /// Runtime mode: standalone or kubernetes
    #[arg(long, default_value = "standalone")]
    pub mode: String,

    /// Folder with resources (components, subscriptions, …); may be given several times
    #[arg(long, value_delimiter = ',', action = ArgAction::Append, value_name = "DIR")]
    pub resources_path: Vec<String>,

    /// Deprecated alias of --resources-path
    #[arg(long, default_value = "", value_name = "DIR")]
    pub components_path: String,

    /// Configuration file; may be given several times, later ones win
    #[arg(long, value_delimiter = ',', action = ArgAction::Append, value_name = "FILE")]
    pub config: Vec<String>,

    /// Address of the operator (Kubernetes)
    #[arg(long, default_value = "")]
    pub control_plane_address: String,

    /// Namespace of the control plane [env: DAPR_CONTROLPLANE_NAMESPACE]
    #[arg(long)]
    pub control_plane_namespace: Option<String>,

    /// Trust domain of the control plane [env: DAPR_CONTROLPLANE_TRUST_DOMAIN]
    #[arg(long)]
    pub control_plane_trust_domain: Option<String>,

    /// Address of the certificate authority
    #[arg(long, default_value = "")]
    pub sentry_address: String,

    /// Audiences to ask for in JWTs from the certificate authority
    #[arg(long, value_delimiter = ',', action = ArgAction::Append)]
    pub sentry_request_jwt_audiences: Vec<String>,

    /// Encrypt and authenticate calls between sidecars
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = go_bool, action = ArgAction::Set)]
    pub enable_mtls: bool,

    /// Addresses of the actor placement service, separated by commas
    #[arg(long, default_value = "")]
    pub placement_host_address: String,

    /// Addresses of the scheduler service
    #[arg(long, value_delimiter = ',', action = ArgAction::Append)]
    pub scheduler_host_address: Vec<String>,

    /// Parallel job streams per scheduler
    #[arg(long, default_value_t = 3)]
    pub scheduler_job_streams: u32,

    /// Deprecated, hidden
    #[arg(long, default_value = "", hide = true)]
    pub actors_service: String,

    /// Deprecated, hidden
    #[arg(long, default_value = "", hide = true)]
    pub reminders_service: String,

    /// Time limit for one round of actor placement; above zero
    #[arg(long, default_value = "30s", value_parser = go_duration)]
    pub actors_disseminate_timeout: Duration,

    /// Origins allowed by CORS: empty is off, * is all, else a list separated by commas
    #[arg(long, default_value = "")]
    pub allowed_origins: String,

    /// Wait until the sidecar on --dapr-http-port can be used, then exit (at most 60 s)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = go_bool, action = ArgAction::Set)]
    pub wait: bool,

    /// Print the version and exit
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = go_bool, action = ArgAction::Set)]
    pub version: bool,

    /// Print build information and exit
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = go_bool, action = ArgAction::Set)]
    pub build_info: bool,

    /// Largest body of a request, as a quantity (4Mi); -1 is no limit
    #[arg(long, allow_hyphen_values = true, value_name = "QUANTITY")]
    pub max_body_size: Option<String>,

    /// Deprecated: use --max-body-size (this one in MB)
    #[arg(long, allow_hyphen_values = true, value_name = "MB")]
    pub dapr_http_max_request_size: Option<i64>,

    /// Largest set of request headers, as a quantity (4Ki)
    #[arg(long, allow_hyphen_values = true, value_name = "QUANTITY")]
    pub read_buffer_size: Option<String>,

    /// Deprecated: use --read-buffer-size (this one in KB)
    #[arg(long, allow_hyphen_values = true, value_name = "KB")]
    pub dapr_http_read_buffer_size: Option<i64>,

    /// Folder for unix domain sockets; the APIs then listen there instead of on TCP
    #[arg(long, default_value = "", value_name = "DIR")]
    pub unix_domain_socket: String,

    /// Time for a graceful stop, in seconds
    #[arg(long, default_value_t = 5, allow_hyphen_values = true)]
    pub dapr_graceful_shutdown_seconds: i64,

    /// After a stop signal go on serving this long, or until the app is unhealthy
    #[arg(long, value_parser = go_duration)]
    pub dapr_block_shutdown_duration: Option<Duration>,

    /// Log every API call; by default as the Configuration says
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool, action = ArgAction::Set)]
    pub enable_api_logging: Option<bool>,

    /// Do not offer the built-in Kubernetes secret store
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = go_bool, action = ArgAction::Set)]
    pub disable_builtin_k8s_secret_store: bool,

    /// What not to ask the app at start: config, subscribe
    #[arg(long, value_delimiter = ',', action = ArgAction::Append)]
    pub disable_init_endpoints: Vec<String>,

    /// Probe the app's health
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = go_bool, action = ArgAction::Set)]
    pub enable_app_health_check: bool,

    /// Path of the health probe (HTTP apps)
    #[arg(long, default_value = "/healthz")]
    pub app_health_check_path: String,

    /// Seconds between two health probes; 0 is the default
    #[arg(long, default_value_t = 5, allow_hyphen_values = true)]
    pub app_health_probe_interval: i64,

    /// Milliseconds a health probe may take; 0 is the default
    #[arg(long, default_value_t = 500, allow_hyphen_values = true)]
    pub app_health_probe_timeout: i64,

    /// Failed probes in a row until the app counts as unhealthy; 0 is the default
    #[arg(long, default_value_t = 3, allow_hyphen_values = true)]
    pub app_health_threshold: i64,

    /// Period of the reconcile behind hot reload; 0 is the default (60s)
    #[arg(long, default_value = "0s", value_parser = go_duration)]
    pub hot_reload_reconcile_interval: Duration,

    /// debug, info, warn, error or fatal
    #[arg(long, default_value = "info")]
    pub log_level: String,

    /// Write the log to this file instead of standard output
    #[arg(long, default_value = "", value_name = "FILE")]
    pub log_file: String,

    /// Log one JSON object per line
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = go_bool, action = ArgAction::Set)]
    pub log_as_json: bool,

    /// Port of the Prometheus endpoint
    #[arg(long, default_value = "9090", value_name = "PORT")]
    pub metrics_port: String,

    /// Address of the Prometheus endpoint
    #[arg(long, default_value = "0.0.0.0")]
    pub metrics_listen_address: String,

    /// Serve metrics
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", value_parser = go_bool, action = ArgAction::Set)]
    pub enable_metrics: bool,

    /// Socket of the hub; set by `outrigger run` [env: OUTRIGGER_HUB_SOCKET]
    #[arg(long, value_name = "PATH")]
    pub hub_socket: Option<std::path::PathBuf>,
}

impl Flags {
    /// Parses arguments *without* the program's name.
    pub fn parse_from_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(
            std::iter::once(OsString::from("daprd")).chain(args.into_iter().map(double_dash)),
        )
    }
}

/// `-app-id` → `--app-id`. Numbers (`-1`) and lone short forms (`-h`) stay.
fn double_dash(argument: OsString) -> OsString {
    match argument.to_str() {
        Some(text)
            if text.len() > 2
                && text.starts_with('-')
                && !text.starts_with("--")
                && text.parse::<f64>().is_err() =>
        {
            OsString::from(format!("-{text}"))
        }
        _ => argument,
    }
}

fn go_bool(text: &str) -> Result<bool, String> {
    go::boolean(text).map_err(|_| "say true or false".to_owned())
}

fn go_duration(text: &str) -> Result<Duration, String> {
    go::duration(text).map_err(|error| format!("{error}; write for example 500ms, 10s or 1m30s"))
}

#[cfg(test)]
mod tests;
