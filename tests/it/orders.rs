//! `examples/orders` as a reader runs it: four languages, each knowing only its sidecar, and a real Zipkin that is shown one trace per order.

use crate::cluster::quick;
use outrigger_testkit::cache;
use outrigger_testkit::port::Port;
use outrigger_testkit::process::{Process, outrigger};
use outrigger_testkit::servers::{skipped, zipkin};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Go and Rust build their services first.
const BUILT: Duration = Duration::from_secs(300);
const SHOWN: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(200);
const ORDERS: usize = 20;
const LANGUAGES: [(&str, &str); 4] = [
    ("python3", "--version"),
    ("node", "--version"),
    ("go", "version"),
    ("cargo", "--version"),
];

#[tokio::test]
async fn every_order_is_one_trace_across_four_services() {
    if quick() {
        return skipped("the order system is not run by quick tests");
    }
    for (program, version) in LANGUAGES {
        if !runs(program, version) {
            return skipped(&format!(
                "the order system needs {program}, which is not installed"
            ));
        }
    }
    let Some(zipkin) = zipkin::start().await else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let ports: Vec<Port> = (0..4).map(|_| Port::take()).collect();
    let mut replace = vec![(":9411".to_owned(), format!(":{}", zipkin.port()))];
    for (usual, port) in (6001..).zip(&ports) {
        replace.push((format!("appPort: {usual}"), format!("appPort: {}", port.number())));
    }
    copy(&repository().join("examples/orders"), folder.path(), &replace);

    let home = folder.path().join("home");
    let mut system = Process::new("system", outrigger(), folder.path())
        .args(["run", "-f"])
        .args([folder.path().join("tracing.yaml")])
        .env("OUTRIGGER_HOME", &home)
        .env("ORDERS", ORDERS.to_string())
        // Where the Rust service is built, so that the next run finds it.
        .env("CARGO_TARGET_DIR", cache::folder().join("orders"));
    system.start();
    for last in [
        format!("({ORDERS} of {ORDERS})"),
        format!("notified the customer of o-{ORDERS} "),
        format!("shipped o-{ORDERS}\n"),
    ] {
        system.says(&last, BUILT).await;
    }

    let deadline = Instant::now() + SHOWN;
    let whole = loop {
        let traces: Vec<Vec<Value>> = serde_json::from_str(&zipkin.traces(10 * ORDERS).await).unwrap();
        let whole = traces.iter().filter(|trace| spans(trace) == expected()).count();
        if whole >= ORDERS || Instant::now() > deadline {
            break whole;
        }
        tokio::time::sleep(LOOK).await;
    };
    assert_eq!(whole, ORDERS, "each order is one trace");
    system.terminate();
    system.exit(SHOWN).await;
    let mut down = Process::new("down", outrigger(), folder.path())
        .args(["down"])
        .env("OUTRIGGER_HOME", &home);
    down.start();
    down.exit(SHOWN).await;
}

/// Who did what for one order. Repetitions of a delivery count once.
fn expected() -> BTreeSet<(String, String)> {
    [
        ("order", "/v1.0/state/statestore"),
        ("order", "/v1.0/publish/pubsub/orders"),
        ("billing", "pubsub/orders"),
        ("notification", "pubsub/orders"),
        ("shipping", "pubsub/orders"),
        ("billing", "/v1.0/publish/pubsub/bills"),
        ("order", "pubsub/bills"),
    ]
    .map(|(service, name)| (service.to_owned(), name.to_owned()))
    .into()
}

fn spans(trace: &[Value]) -> BTreeSet<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    trace
        .iter()
        .map(|span| (text(&span["localEndpoint"]["serviceName"]), text(&span["name"])))
        .collect()
}

fn runs(program: &str, version: &str) -> bool {
    let output = std::process::Command::new(program).arg(version).output();
    output.is_ok_and(|output| output.status.success())
}

/// Text files with other ports; what was built in the repository stays there.
fn copy(from: &Path, to: &Path, replace: &[(String, String)]) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_file() {
            let mut text = std::fs::read_to_string(&path).unwrap();
            for (old, new) in replace {
                text = text.replace(old, new);
            }
            std::fs::write(to.join(name), text).unwrap();
        } else if name != "target" {
            copy(&path, &to.join(name), replace);
        }
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
