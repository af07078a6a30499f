//! Processes of one test: a hub, sidecars, resources, all in a temporary folder on ports of their own.

use outrigger_testkit::client::Client;
use outrigger_testkit::port::Port;
use outrigger_testkit::process::{Process, outrigger};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// For what should happen at once, on a machine that is busy.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Cluster {
    folder: TempDir,
}

/// A sidecar that keeps its ports over its lives.
pub(crate) struct Sidecar {
    pub(crate) process: Process,
    http: Port,
    grpc: Port,
    internal: Port,
    _metrics: Port,
    client: Client,
}

/// How a sidecar is started.
#[derive(Default)]
pub(crate) struct Spec<'a> {
    pub(crate) app_id: &'a str,
    pub(crate) app_port: Option<u16>,
    pub(crate) resources: Option<&'a Path>,
    /// Without, its name resolution is mDNS.
    pub(crate) hub: bool,
    pub(crate) flags: &'a [&'a str],
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self {
            folder: TempDir::new().expect("a temporary folder"),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A folder with these files.
    pub(crate) fn resources(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.folder().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.join(name), text).expect("a file");
        }
        folder
    }

    /// `statestore` and `pubsub`, in the hub.
    pub(crate) fn embedded(&self) -> PathBuf {
        let pubsub = component("pubsub", "pubsub.outrigger", &[]);
        let state = component("statestore", "state.outrigger", &[]);
        self.resources("embedded", &[("pubsub.yaml", &pubsub), ("state.yaml", &state)])
    }

    /// A hub that is not started yet; it ends only when it is told to.
    pub(crate) fn hub(&self) -> Process {
        let home = self.folder().as_os_str();
        let args = [
            "hub".as_ref(),
            "--idle-after".as_ref(),
            "0".as_ref(),
            "--home".as_ref(),
            home,
        ];
        Process::new("hub", outrigger(), self.folder()).args(args)
    }

    /// A sidecar that is not started yet.
    pub(crate) fn sidecar(&self, spec: &Spec<'_>) -> Sidecar {
        let (http, grpc, internal, metrics) = (Port::take(), Port::take(), Port::take(), Port::take());
        let mut process = Process::new(spec.app_id, outrigger(), self.folder())
            .args(["daprd", "--app-id", spec.app_id])
            .args(["--dapr-http-port", &http.number().to_string()])
            .args(["--dapr-grpc-port", &grpc.number().to_string()])
            .args(["--dapr-internal-grpc-port", &internal.number().to_string()])
            .args(["--metrics-port", &metrics.number().to_string()])
            .args([
                "--dapr-listen-addresses",
                "127.0.0.1",
                "--metrics-listen-address",
                "127.0.0.1",
            ])
            .args(["--dapr-internal-grpc-listen-address", "127.0.0.1"])
            .args(spec.flags);
        if let Some(port) = spec.app_port {
            process = process.args(["--app-port", &port.to_string()]);
        }
        if let Some(folder) = spec.resources {
            process = process.args(["--resources-path".as_ref(), folder.as_os_str()]);
        }
        if spec.hub {
            process = process.env("OUTRIGGER_HUB_SOCKET", self.folder().join("hub/hub.sock"));
        }
        Sidecar {
            process,
            http,
            grpc,
            internal,
            _metrics: metrics,
            client: Client::new(SOON),
        }
    }
}

impl Sidecar {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http.number())
    }

    pub(crate) fn http_port(&self) -> u16 {
        self.http.number()
    }

    pub(crate) fn grpc_port(&self) -> u16 {
        self.grpc.number()
    }

    pub(crate) fn internal_port(&self) -> u16 {
        self.internal.number()
    }

    pub(crate) async fn start(&mut self) {
        self.process.start();
        self.ready().await;
    }

    /// Waits until it has found its app and serves it.
    pub(crate) async fn ready(&self) {
        self.client.until(&self.url("/v1.0/healthz"), 204, SOON).await;
    }

    /// Waits until it serves requests, with its app or without.
    pub(crate) async fn serving(&self) {
        self.client
            .until(&self.url("/v1.0/healthz/outbound"), 204, SOON)
            .await;
    }
}

/// YAML of a component.
pub(crate) fn component(name: &str, kind: &str, metadata: &[(&str, &str)]) -> String {
    let items: String = metadata
        .iter()
        .map(|(name, value)| format!("  - name: {name}\n    value: {value:?}\n"))
        .collect();
    let items = if items.is_empty() {
        "  metadata: []\n".to_owned()
    } else {
        format!("  metadata:\n{items}")
    };
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: {name}\nspec:\n  type: {kind}\n  version: v1\n{items}"
    )
}

/// Whether long tests should be short ones: `OUTRIGGER_QUICK_TESTS=1`.
#[expect(
    clippy::disallowed_methods,
    reason = "how much to test is up to whoever runs the tests"
)]
pub(crate) fn quick() -> bool {
    std::env::var("OUTRIGGER_QUICK_TESTS").is_ok_and(|value| value == "1")
}
