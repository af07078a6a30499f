//! From options to an [`App`] without holes: id, ports, resources; and from there to the sidecar's arguments and the
//! app's environment.

use super::options::{Shared, Single};
use crate::home::Home;
use crate::http::Place;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};

/// One app and its sidecar, everything decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct App {
    pub(crate) id: String,
    /// Where both run.
    pub(crate) folder: PathBuf,
    /// Empty: a sidecar alone.
    pub(crate) command: Vec<String>,
    pub(crate) ports: Ports,
    pub(crate) resources: Vec<PathBuf>,
    pub(crate) configuration: Option<PathBuf>,
    pub(crate) channel_address: String,
    pub(crate) unix_socket: Option<PathBuf>,
    pub(crate) shared: Shared,
}

/// Zero is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) app: u16,
    pub(crate) http: u16,
    pub(crate) grpc: u16,
    pub(crate) internal: u16,
    pub(crate) metrics: u16,
    pub(crate) profile: u16,
}

/// Ports that are reserved until every app's are chosen, so that no two are the same. Dropped before anybody starts.
#[derive(Default)]
pub(crate) struct Chosen {
    held: Vec<TcpListener>,
    /// Where the search for a [lasting](Self::lasting) port goes on.
    lasting: u64,
}

/// Decides what was left open. `known` are ids in use, of which no new one is made up.
pub(crate) fn app(
    single: Single,
    shared: Shared,
    folder: &Path,
    home: &Home,
    known: &[String],
    chosen: &mut Chosen,
) -> Result<App> {
    let id = match single.app_id.filter(|id| !id.is_empty()) {
        Some(id) => id,
        None => fresh_id(known),
    };
    let inside = |path: &PathBuf| folder.join(path);
    let mut resources: Vec<PathBuf> = shared.resources().iter().map(inside).collect();
    if resources.is_empty() {
        resources.push(home.resources()?);
    }
    for path in &resources {
        std::fs::read_dir(path)
            .with_context(|| format!("cannot read the resources of app {id:?} in {}", path.display()))?;
    }
    let configuration = shared
        .config
        .as_ref()
        .map(inside)
        .or_else(|| home.configuration());
    if let Some(path) = configuration.as_ref().filter(|path| !path.is_file()) {
        bail!(
            "the Configuration of app {id:?}, {}, is not a file",
            path.display()
        );
    }
    let unix_socket = single.unix_domain_socket.as_ref().map(inside);
    let mut port = |flag: &'static str, given| chosen.port(&id, flag, given);
    let mut ports = Ports {
        app: number("app-port", single.app_port)?.unwrap_or(0),
        internal: port("dapr-internal-grpc-port", single.dapr_internal_grpc_port)?,
        metrics: port("metrics-port", single.metrics_port)?,
        ..Ports::default()
    };
    if unix_socket.is_none() {
        ports.http = port("dapr-http-port", single.dapr_http_port)?;
        ports.grpc = port("dapr-grpc-port", single.dapr_grpc_port)?;
    }
    if shared.enable_profiling == Some(true) {
        ports.profile = port("profile-port", single.profile_port)?;
    }
    Ok(App {
        id,
        folder: folder.to_owned(),
        command: single.command,
        ports,
        resources,
        configuration,
        channel_address: single
            .app_channel_address
            .unwrap_or_else(|| "127.0.0.1".to_owned()),
        unix_socket,
        shared,
    })
}

impl App {
    /// Where the sidecar's HTTP API is.
    pub(crate) fn place(&self) -> Place {
        match &self.unix_socket {
            Some(folder) => Place::Socket(socket(folder, &self.id, "http")),
            None => Place::Port(self.ports.http),
        }
    }

    /// The sidecar's arguments.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        let mut add = |flag: &str, value: OsString| args.extend([OsString::from(flag), value]);
        let shared = &self.shared;
        add("--app-id", self.id.clone().into());
        let ports = [
            ("--app-port", self.ports.app),
            ("--dapr-http-port", self.ports.http),
            ("--dapr-grpc-port", self.ports.grpc),
            ("--dapr-internal-grpc-port", self.ports.internal),
            ("--metrics-port", self.ports.metrics),
            ("--profile-port", self.ports.profile),
        ];
        for (flag, port) in ports.into_iter().filter(|(_, port)| *port != 0) {
            add(flag, port.to_string().into());
        }
        if self.channel_address != "127.0.0.1" {
            add("--app-channel-address", self.channel_address.clone().into());
        }
        if let Some(folder) = &self.unix_socket {
            add("--unix-domain-socket", folder.into());
        }
        for path in &self.resources {
            add("--resources-path", path.into());
        }
        if let Some(path) = &self.configuration {
            add("--config", path.into());
        }
        let texts = [
            ("--app-protocol", &shared.app_protocol),
            ("--dapr-listen-addresses", &shared.api_listen_addresses),
            ("--log-level", &shared.log_level),
            ("--placement-host-address", &shared.placement_host_address),
            ("--scheduler-host-address", &shared.scheduler_host_address),
            ("--max-body-size", &shared.max_body_size),
            ("--read-buffer-size", &shared.read_buffer_size),
            ("--app-health-check-path", &shared.app_health_check_path),
        ];
        for (flag, text) in texts {
            if let Some(text) = text.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
                add(flag, text.into());
            }
        }
        let numbers = [
            (
                "--app-max-concurrency",
                shared.app_max_concurrency.filter(|most| *most > 0),
            ),
            ("--app-health-probe-interval", shared.app_health_probe_interval),
            ("--app-health-probe-timeout", shared.app_health_probe_timeout),
            ("--app-health-threshold", shared.app_health_threshold),
        ];
        for (flag, number) in numbers {
            if let Some(number) = number {
                add(flag, number.to_string().into());
            }
        }
        let switches = [
            ("--enable-profiling", shared.enable_profiling),
            ("--app-ssl", shared.app_ssl),
            ("--enable-app-health-check", shared.enable_app_health_check),
            ("--enable-api-logging", shared.enable_api_logging),
        ];
        for (flag, switch) in switches {
            if let Some(on) = switch {
                args.push(format!("{flag}={on}").into());
            }
        }
        if shared.log_as_json {
            args.push("--log-as-json".into());
        }
        args
    }

    /// What the app finds in its environment, beside what is there already.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let mut variables = vec![
            ("APP_ID".to_owned(), self.id.clone()),
            ("APP_CHANNEL_ADDRESS".to_owned(), self.channel_address.clone()),
            ("APP_PROTOCOL".to_owned(), self.protocol()),
        ];
        let ports = [
            ("APP_PORT", self.ports.app),
            ("DAPR_HTTP_PORT", self.ports.http),
            ("DAPR_GRPC_PORT", self.ports.grpc),
            ("DAPR_METRICS_PORT", self.ports.metrics),
        ];
        for (name, port) in ports.into_iter().filter(|(_, port)| *port != 0) {
            variables.push((name.to_owned(), port.to_string()));
        }
        variables.extend(self.shared.env.clone());
        variables
    }

    /// COMPAT(dapr/cli pkg/standalone/run.go): `--app-ssl` turns http and grpc into their encrypted forms.
    fn protocol(&self) -> String {
        let protocol = self
            .shared
            .app_protocol
            .as_deref()
            .unwrap_or("http")
            .to_lowercase();
        match (protocol.as_str(), self.shared.app_ssl) {
            ("http" | "grpc", Some(true)) => format!("{protocol}s"),
            _ => protocol,
        }
    }
}

/// The file name is the reference's.
pub(crate) fn socket(folder: &Path, id: &str, protocol: &str) -> PathBuf {
    folder.join(format!("dapr-{id}-{protocol}.socket"))
}

impl Chosen {
    /// A free port for somebody who will be killed and comes back to it. It lies below those that the kernel gives to
    /// outgoing connections, so nobody gets it by accident meanwhile. Not reserved, but given only once.
    pub(crate) fn lasting(&mut self) -> Result<u16> {
        const FIRST: u16 = 20_000;
        const COUNT: u16 = 12_000;
        if self.lasting == 0 {
            self.lasting = random();
        }
        for _ in 0..COUNT {
            self.lasting += 1;
            let offset = u16::try_from(self.lasting % u64::from(COUNT))?;
            if bind(FIRST + offset).is_ok() {
                return Ok(FIRST + offset);
            }
        }
        bail!("no free port from {FIRST} to {}", FIRST + COUNT)
    }

    /// The given port if it is free, or any free one.
    fn port(&mut self, id: &str, flag: &'static str, given: Option<i64>) -> Result<u16> {
        let given = number(flag, given)?;
        let listener = bind(given.unwrap_or(0)).with_context(|| match given {
            Some(port) => format!(
                "port {port} (--{flag}) for app {id:?} cannot be used; stop who uses it (`outrigger list`), \
                     or leave the option out to get a free port"
            ),
            None => format!("no free port for --{flag} of app {id:?}"),
        })?;
        let port = listener
            .local_addr()
            .context("cannot tell which port was chosen")?
            .port();
        self.held.push(listener);
        Ok(port)
    }
}

/// Every interface, as a sidecar does.
fn bind(port: u16) -> std::io::Result<TcpListener> {
    // A machine without IPv6 has the other one.
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish() >> 1
}

/// A port; nothing given, zero and negative numbers (the reference's "not set") are none.
fn number(flag: &str, given: Option<i64>) -> Result<Option<u16>> {
    match given {
        Some(number) if number > 0 => {
            let port = u16::try_from(number);
            port.map(Some)
                .with_context(|| format!("--{flag}: {number} is not a port; ports go up to 65535"))
        }
        _ => Ok(None),
    }
}

/// A name that can be said aloud, such as `brisk-heron`.
fn fresh_id(known: &[String]) -> String {
    const FIRST: [&str; 16] = [
        "amber", "brisk", "calm", "deft", "eager", "fair", "keen", "lucid", "merry", "nimble", "proud",
        "quiet", "swift", "tidy", "vivid", "warm",
    ];
    const SECOND: [&str; 16] = [
        "albatross",
        "canoe",
        "coral",
        "current",
        "gull",
        "harbour",
        "heron",
        "islet",
        "keel",
        "lagoon",
        "mast",
        "paddle",
        "reef",
        "sail",
        "tide",
        "wake",
    ];
    let pick = |words: &[&'static str; 16]| words[usize::from(random().to_le_bytes()[0] % 16)];
    loop {
        let id = format!("{}-{}-{}", pick(&FIRST), pick(&SECOND), random() % 1000);
        if !known.contains(&id) {
            return id;
        }
    }
}

#[cfg(test)]
mod tests;
