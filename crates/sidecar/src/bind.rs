//! Ports are taken before slow work: a port in use is known at once, and port 0 gets its number before anybody
//! is told of it.

use crate::config::{Config, Internal, Listen, address};
use outrigger_daemon::drain::serve::Listener;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tokio::net::{TcpListener, TcpSocket, UnixListener};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Why a port could not be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "could not listen on {address} for the {what}: {source}; is another sidecar running? choose another port with {flag}"
    )]
    Port {
        what: &'static str,
        address: String,
        flag: &'static str,
        source: io::Error,
    },
    #[error("could not listen on the unix socket {} for the {what}: {source}", path.display())]
    Socket {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

/// All listeners of a sidecar.
pub(crate) struct Bound {
    pub(crate) http: Vec<Listener>,
    pub(crate) grpc: Vec<Listener>,
    pub(crate) internal: Listener,
    pub(crate) public: Option<Listener>,
    pub(crate) metrics: Option<Listener>,
}

/// The numbers of the ports, which others are told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) http_port: u16,
    pub(crate) grpc_port: u16,
    pub(crate) internal_port: u16,
}

impl Bound {
    /// Takes every port. All or none: on failure those taken are given back.
    pub(crate) async fn all(config: &Config) -> Result<Self, Error> {
        let internal = match config.internal_port {
            Internal::Exactly(port) => tcp(&config.internal_host, port, INTERNAL).await?,
            Internal::Preferably(port) => match tcp(&config.internal_host, port, INTERNAL).await {
                Ok(listener) => listener,
                // Taken: any free port does, since peers learn it from name resolution.
                Err(_) => tcp(&config.internal_host, 0, INTERNAL).await?,
            },
        };
        let (http, grpc) = match &config.listen {
            Listen::Tcp(hosts) => {
                let mut http = Vec::with_capacity(hosts.len());
                let mut grpc = Vec::with_capacity(hosts.len());
                for host in hosts {
                    http.push(tcp(host, config.http_port, HTTP).await?);
                    grpc.push(tcp(host, config.grpc_port, GRPC).await?);
                }
                (http, grpc)
            }
            Listen::Unix(folder) => (
                vec![unix(folder, &config.app_id, "http", HTTP.0)?],
                vec![unix(folder, &config.app_id, "grpc", GRPC.0)?],
            ),
        };
        let public = match &config.public {
            Some((host, port)) => Some(tcp(host, *port, ("public API", "--dapr-public-port")).await?),
            None => None,
        };
        let metrics = match &config.metrics {
            Some((host, port)) => Some(tcp(host, *port, ("metrics", "--metrics-port")).await?),
            None => None,
        };
        Ok(Self {
            http,
            grpc,
            internal,
            public,
            metrics,
        })
    }

    /// Sockets without a port show the configured one, as the reference does.
    pub(crate) fn ports(&self, config: &Config) -> Ports {
        Ports {
            http_port: port_of(&self.http).unwrap_or(config.http_port),
            grpc_port: port_of(&self.grpc).unwrap_or(config.grpc_port),
            internal_port: self.internal.address().map_or(0, |address| address.port()),
        }
    }
}

type Use = (&'static str, &'static str);
const HTTP: Use = ("HTTP API", "--dapr-http-port");
const GRPC: Use = ("gRPC API", "--dapr-grpc-port");
const INTERNAL: Use = ("internal gRPC server", "--dapr-internal-grpc-port");

fn port_of(listeners: &[Listener]) -> Option<u16> {
    listeners
        .first()
        .and_then(Listener::address)
        .map(|address| address.port())
}

/// An empty host is every interface, of both families where the machine has both.
async fn tcp(host: &str, port: u16, (what, flag): Use) -> Result<Listener, Error> {
    let wanted = address(host, port);
    let failed = |source| Error::Port {
        what,
        address: wanted.clone(),
        flag,
        source,
    };
    let bound = match listen(&wanted).await {
        // A machine without IPv6 has no `[::]`.
        Err(_) if host.is_empty() => listen(&format!("0.0.0.0:{port}")).await,
        other => other,
    };
    bound.map(Listener::Tcp).map_err(failed)
}

async fn listen(address: &str) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    for address in tokio::net::lookup_host(address).await? {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }?;
        socket.set_reuseaddr(true)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// `dapr-<app id>-<kind>.socket` in the folder; a socket left by a dead process is replaced.
fn unix(folder: &Path, app_id: &str, kind: &str, what: &'static str) -> Result<Listener, Error> {
    let path = folder.join(format!("dapr-{app_id}-{kind}.socket"));
    let failed = |source| Error::Socket {
        what,
        path: path.clone(),
        source,
    };
    if std::os::unix::net::UnixStream::connect(&path).is_ok() {
        return Err(failed(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process is listening there",
        )));
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    // The app may run as another user of the same group (pods share the folder).
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(Listener::Unix(listener))
}
