//! What can be said of an app and its sidecar: one table for flags, run files and the sidecar's arguments.
//!
//! Field by field: the flag is `dapr run`'s, the name in a run file is the reference's. Everything is optional here;
//! defaults are the sidecar's own, but for ports, which are chosen free when [`resolve`](super::resolve) is done.

use clap::Args;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a run file's `common` may say for all its apps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Shared {
    /// Configuration file [default: <home>/config.yaml if there is one]
    #[arg(long, short = 'c', value_name = "FILE")]
    #[serde(rename = "configFilePath")]
    pub(crate) config: Option<PathBuf>,

    /// How the app is spoken to: http, https, h2c, grpc, grpcs [default: http]
    #[arg(long, short = 'P', value_name = "PROTOCOL")]
    pub(crate) app_protocol: Option<String>,

    /// Addresses of the sidecar's HTTP and gRPC API, separated by commas [default: all]
    #[arg(long = "dapr-listen-addresses", value_name = "ADDRESSES")]
    pub(crate) api_listen_addresses: Option<String>,

    /// Serve profiles
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) enable_profiling: Option<bool>,

    /// What the sidecar logs: debug, info, warn, error or fatal [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,

    /// How many calls the app gets at once; -1 is no limit [default: -1]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) app_max_concurrency: Option<i64>,

    /// Address of the actor placement service [default: none]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) placement_host_address: Option<String>,

    /// Address of the scheduler service [default: none]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) scheduler_host_address: Option<String>,

    /// Deprecated alias of --resources-path
    #[arg(long, short = 'd', value_name = "DIR", hide = true)]
    #[serde(rename = "resourcesPath")]
    pub(crate) components_path: Option<PathBuf>,

    /// Folder with resources (components, subscriptions, …); may be given several times
    /// [default: <home>/components, or a durable `statestore` and `pubsub` in this machine's hub]
    #[arg(long = "resources-path", value_delimiter = ',', value_name = "DIR")]
    #[serde(default, rename = "resourcesPaths")]
    pub(crate) resources_paths: Vec<PathBuf>,

    /// Deprecated: use --app-protocol https|grpcs
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide = true)]
    #[serde(rename = "appSSL")]
    pub(crate) app_ssl: Option<bool>,

    /// Largest body of a request, as a quantity [default: 4Mi]
    #[arg(long, value_name = "QUANTITY", allow_negative_numbers = true)]
    pub(crate) max_body_size: Option<String>,

    /// Largest set of request headers, as a quantity [default: 4Ki]
    #[arg(long, value_name = "QUANTITY", allow_negative_numbers = true)]
    pub(crate) read_buffer_size: Option<String>,

    /// Probe the app's health
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) enable_app_health_check: Option<bool>,

    /// Path of the health probe, HTTP only [default: /healthz]
    #[arg(long, value_name = "PATH")]
    pub(crate) app_health_check_path: Option<String>,

    /// Seconds between two health probes [default: 5]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) app_health_probe_interval: Option<i64>,

    /// Milliseconds a health probe may take [default: 500]
    #[arg(long, value_name = "MILLISECONDS")]
    pub(crate) app_health_probe_timeout: Option<i64>,

    /// Failed probes in a row until the app counts as unhealthy [default: 3]
    #[arg(long, value_name = "N")]
    pub(crate) app_health_threshold: Option<i64>,

    /// Log every API call [default: as the Configuration says]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[serde(rename = "enableApiLogging")]
    pub(crate) enable_api_logging: Option<bool>,

    /// Let the sidecar log one JSON object per line; a run file does not say this
    #[arg(long)]
    #[serde(skip)]
    pub(crate) log_as_json: bool,

    /// Variables for the app, beside those of this process.
    #[arg(skip)]
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,

    #[arg(skip)]
    pub(crate) daprd_log_destination: Option<Destination>,

    #[arg(skip)]
    pub(crate) app_log_destination: Option<Destination>,
}

/// What belongs to one app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Single {
    /// A unique id of the app [default: a made-up one]
    #[arg(long, short = 'a', value_name = "ID")]
    #[serde(rename = "appID")]
    pub(crate) app_id: Option<String>,

    /// The host the app listens on [default: 127.0.0.1]
    #[arg(long, value_name = "HOST")]
    pub(crate) app_channel_address: Option<String>,

    /// The port the app listens on; without it nothing is delivered to the app
    #[arg(long, short = 'p', value_name = "PORT", allow_negative_numbers = true)]
    pub(crate) app_port: Option<i64>,

    /// Port of the sidecar's HTTP API [default: a free one]
    #[arg(long, short = 'H', value_name = "PORT", allow_negative_numbers = true)]
    #[serde(rename = "daprHTTPPort")]
    pub(crate) dapr_http_port: Option<i64>,

    /// Port of the sidecar's gRPC API [default: a free one]
    #[arg(long, short = 'G', value_name = "PORT", allow_negative_numbers = true)]
    #[serde(rename = "daprGRPCPort")]
    pub(crate) dapr_grpc_port: Option<i64>,

    /// Port for other sidecars [default: a free one]
    #[arg(long, short = 'I', value_name = "PORT", allow_negative_numbers = true)]
    #[serde(rename = "daprInternalGRPCPort")]
    pub(crate) dapr_internal_grpc_port: Option<i64>,

    /// Port of the profile server [default: a free one]
    #[arg(long, value_name = "PORT", allow_negative_numbers = true)]
    pub(crate) profile_port: Option<i64>,

    /// Port of the sidecar's metrics [default: a free one]
    #[arg(long, short = 'M', value_name = "PORT", allow_negative_numbers = true)]
    pub(crate) metrics_port: Option<i64>,

    /// Folder for unix domain sockets; the sidecar's APIs then listen there instead of on ports
    #[arg(long, short = 'u', value_name = "DIR")]
    pub(crate) unix_domain_socket: Option<PathBuf>,

    /// The command that starts the app, with its arguments
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    #[serde(default)]
    pub(crate) command: Vec<String>,
}

/// Where lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Destination {
    Console,
    File,
    FileAndConsole,
}

impl Destination {
    pub(crate) fn console(self) -> bool {
        self != Self::File
    }

    pub(crate) fn file(self) -> bool {
        self != Self::Console
    }
}

impl Shared {
    /// What is not said here, as `common` says it. Resource and Configuration paths have rules of their own and are
    /// left alone. Variables of both hold, ours win.
    pub(crate) fn or(mut self, common: &Self) -> Self {
        let mut env = common.env.clone();
        env.append(&mut self.env);
        Self {
            config: self.config,
            components_path: self.components_path,
            resources_paths: self.resources_paths,
            app_protocol: self.app_protocol.or_else(|| common.app_protocol.clone()),
            api_listen_addresses: self
                .api_listen_addresses
                .or_else(|| common.api_listen_addresses.clone()),
            enable_profiling: self.enable_profiling.or(common.enable_profiling),
            log_level: self.log_level.or_else(|| common.log_level.clone()),
            app_max_concurrency: self.app_max_concurrency.or(common.app_max_concurrency),
            placement_host_address: self
                .placement_host_address
                .or_else(|| common.placement_host_address.clone()),
            scheduler_host_address: self
                .scheduler_host_address
                .or_else(|| common.scheduler_host_address.clone()),
            app_ssl: self.app_ssl.or(common.app_ssl),
            max_body_size: self.max_body_size.or_else(|| common.max_body_size.clone()),
            read_buffer_size: self.read_buffer_size.or_else(|| common.read_buffer_size.clone()),
            enable_app_health_check: self.enable_app_health_check.or(common.enable_app_health_check),
            app_health_check_path: self
                .app_health_check_path
                .or_else(|| common.app_health_check_path.clone()),
            app_health_probe_interval: self
                .app_health_probe_interval
                .or(common.app_health_probe_interval),
            app_health_probe_timeout: self.app_health_probe_timeout.or(common.app_health_probe_timeout),
            app_health_threshold: self.app_health_threshold.or(common.app_health_threshold),
            enable_api_logging: self.enable_api_logging.or(common.enable_api_logging),
            log_as_json: self.log_as_json,
            env,
            daprd_log_destination: self.daprd_log_destination.or(common.daprd_log_destination),
            app_log_destination: self.app_log_destination.or(common.app_log_destination),
        }
    }

    /// Every folder of resources that was named, the list first.
    pub(crate) fn resources(&self) -> Vec<PathBuf> {
        self.resources_paths
            .iter()
            .chain(&self.components_path)
            .cloned()
            .collect()
    }
}
