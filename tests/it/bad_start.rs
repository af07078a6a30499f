//! Wrong resources, wrong flags, taken ports: each ends the process with the stated exit code and text, or is left out
//! with a warning while everything else works. Nothing hangs.

use crate::cluster::{Cluster, SOON, Spec, component};
use outrigger_testkit::client::Client;
use outrigger_testkit::port::Port;
use outrigger_testkit::process::{Process, outrigger};
use std::net::TcpListener;

/// What becomes of a sidecar.
enum Expect {
    /// It ends with this code, and says this.
    Ends(i32, &'static str),
    /// It says this, and serves.
    Serves(&'static str),
}

use Expect::{Ends, Serves};

struct Row {
    /// What is wrong.
    what: &'static str,
    /// Of the resource folder.
    files: Vec<(&'static str, String)>,
    flags: Vec<String>,
    expect: Expect,
}

/// Something is wrong in the resource folder.
fn files(what: &'static str, files: &[(&'static str, &str)], expect: Expect) -> Row {
    let files = files
        .iter()
        .map(|(name, text)| (*name, (*text).to_owned()))
        .collect();
    Row {
        what,
        files,
        flags: Vec::new(),
        expect,
    }
}

/// Something is wrong in the command line.
fn flags(what: &'static str, flags: &[&str], expect: Expect) -> Row {
    Row {
        what,
        files: Vec::new(),
        flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
        expect,
    }
}

const HEAD: &str = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: store\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resources() {
    let typed = |kind: &str| component("store", kind, &[]);
    let (memory, other) = (typed("state.in-memory"), typed("pubsub.in-memory"));
    let (unknown, foreign, version) = (
        typed("state.nosuch"),
        typed("nosuch.thing"),
        memory.replace("v1\n", "v9\n"),
    );
    let redis = typed("state.redis");
    let embedded = typed("state.outrigger");
    let wrong_number = component("bus", "pubsub.in-memory", &[("concurrency", "many")]);
    let zero = component("bus", "pubsub.in-memory", &[("concurrency", "0")]);
    let nobody = component(
        "store",
        "state.outrigger",
        &[("socket", "/nowhere/hub.sock"), ("waitForHub", "100ms")],
    );
    let ignored = format!(
        "{}  ignoreErrors: true\n",
        unknown.replace("  metadata: []\n", "")
    );
    let list = format!("{HEAD}spec: [1, 2]\n");
    let number = format!("{HEAD}spec:\n  type: state.in-memory\n  version: v1\n  metadata: 7\n");
    let named = memory.replace("name: store", "name: a/b");
    let many = format!("{memory}---\nkind: [\n---\n{other}").replace(
        "name: store\nspec:\n  type: pubsub",
        "name: bus\nspec:\n  type: pubsub",
    );
    let nested = format!("a: {}", "[".repeat(100_000));
    let aliases: String = (0..30).fold(
        "x0: &x0 [a, a, a, a, a, a, a, a, a]\n".to_owned(),
        |text, level| {
            let of = format!("*x{level}, ").repeat(9);
            format!(
                "{text}x{}: &x{} [{}]\n",
                level + 1,
                level + 1,
                of.trim_end_matches(", ")
            )
        },
    );
    let subscription = "apiVersion: dapr.io/v2alpha1\nkind: Subscription\nmetadata: {name: s}\n\
        spec:\n  pubsubname: bus\n  topic: t\n  routes: {rules: [{match: 'event.type ==', path: /a}]}\n";
    let rows = vec![
        files(
            "malformed YAML",
            &[("a.yaml", "kind: [\n"), ("b.yaml", &memory)],
            Serves("a.yaml, document 1: "),
        ),
        files(
            "no YAML at all",
            &[("a.yaml", "\u{1}\u{2}"), ("b.yaml", &memory)],
            Serves("a.yaml"),
        ),
        files(
            "one of three documents",
            &[("a.yaml", &many)],
            Serves("a.yaml, document 2: "),
        ),
        files(
            "another kind of file",
            &[("a.txt", "x"), ("b.yaml", &memory)],
            Serves("not a .yaml or .yml file"),
        ),
        files(
            "deep nesting",
            &[("a.yaml", &nested), ("b.yaml", &memory)],
            Serves("a.yaml, document 1: "),
        ),
        files(
            "aliases without end",
            &[("a.yaml", &aliases), ("b.yaml", &memory)],
            Serves("a.yaml"),
        ),
        files(
            "spec of a wrong type",
            &[("a.yaml", &list)],
            Serves("the Component is skipped: "),
        ),
        files(
            "metadata of a wrong type",
            &[("a.yaml", &number)],
            Serves("the Component is skipped: "),
        ),
        files(
            "a name that cannot be a path",
            &[("a.yaml", &named)],
            Serves("may not contain '/'"),
        ),
        files(
            "an unknown type",
            &[("a.yaml", &unknown)],
            Ends(1, "couldn't find state store state.nosuch/v1"),
        ),
        files(
            "an unknown version",
            &[("a.yaml", &version)],
            Ends(1, "couldn't find state store state.in-memory/v9"),
        ),
        files(
            "an unknown category",
            &[("a.yaml", &foreign)],
            Ends(1, "incorrect type nosuch.thing"),
        ),
        files(
            "errors that may be ignored",
            &[("a.yaml", &ignored)],
            Serves("Ignoring error processing component"),
        ),
        files("missing metadata", &[("a.yaml", &redis)], Ends(1, "redisHost")),
        files(
            "a text for a number",
            &[("a.yaml", &wrong_number)],
            Ends(1, "metadata \\\"concurrency\\\" must be a number"),
        ),
        files(
            "a number out of range",
            &[("a.yaml", &zero)],
            Ends(1, "must be at least 1"),
        ),
        files(
            "two of one name",
            &[("a.yaml", &memory), ("b.yaml", &other)],
            Ends(
                1,
                "duplicate definition of Component name store (pubsub.in-memory/v1) with existing store (state.in-memory/v1)",
            ),
        ),
        files(
            "a hub, and none given",
            &[("a.yaml", &embedded)],
            Ends(1, "this sidecar was started without one"),
        ),
        files(
            "a hub that is not there",
            &[("a.yaml", &nobody)],
            Ends(1, "no hub answers at /nowhere/hub.sock"),
        ),
        files(
            "a rule that does not parse",
            &[("a.yaml", subscription)],
            Ends(1, "invalid subscription"),
        ),
        flags(
            "no such folder",
            &["--resources-path", "/nowhere/at/all"],
            Ends(1, "cannot read resource folder /nowhere/at/all"),
        ),
        flags(
            "a file for a folder",
            &["--resources-path", "/etc/hostname"],
            Ends(1, "cannot read resource folder /etc/hostname"),
        ),
        flags(
            "no such configuration",
            &["--config", "/nowhere.yaml"],
            Ends(1, "cannot read configuration /nowhere.yaml"),
        ),
    ];
    table(rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn command_lines() {
    let configuration = Cluster::new();
    let config = |name: &str, spec: &str| {
        let text = format!(
            "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {{name: c}}\nspec: {spec}\n"
        );
        let folder = configuration.resources(name, &[("config.yaml", &text)]);
        folder.join("config.yaml").display().to_string()
    };
    let malformed = config("malformed", "[");
    let (access, sampling) = (
        config("access", "{accessControl: {policies: [{appId: shop}]}}"),
        config(
            "secrets",
            "{secrets: {scopes: [{storeName: s, defaultAccess: perhaps}]}}",
        ),
    );
    let rows = vec![
        flags("an unknown flag", &["--no-such-flag"], Ends(2, "--no-such-flag")),
        flags("an argument", &["surplus"], Ends(2, "surplus")),
        flags("a flag without its value", &["--log-file"], Ends(2, "--log-file")),
        flags(
            "a boolean that is none",
            &["--log-as-json=perhaps"],
            Ends(2, "say true or false"),
        ),
        flags(
            "a number that is none",
            &["--app-max-concurrency", "many"],
            Ends(2, "--app-max-concurrency"),
        ),
        flags(
            "a duration that is none",
            &["--dapr-block-shutdown-duration", "soon"],
            Ends(2, "write for example 500ms"),
        ),
        flags(
            "a log level that is none",
            &["--log-level", "loud"],
            Ends(1, "invalid value for --log-level"),
        ),
        flags(
            "a log file in no folder",
            &["--log-file", "/nowhere/at/all.log"],
            Ends(1, "/nowhere/at/all.log"),
        ),
        flags(
            "a port that is none",
            &["--dapr-public-port", "http"],
            Ends(1, "error parsing dapr-public-port"),
        ),
        flags(
            "a port beyond the last",
            &["--app-port", "65536"],
            Ends(1, "error parsing app-port"),
        ),
        flags(
            "a quantity that is none",
            &["--max-body-size", "much"],
            Ends(1, "invalid value for 'max-body-size' option"),
        ),
        flags(
            "a protocol that is none",
            &["--app-protocol", "smtp", "--app-port", "1"],
            Ends(1, "is none of http, https, h2c, grpc, grpcs"),
        ),
        flags(
            "a mode that is none",
            &["--mode", "cloud"],
            Ends(1, "is neither standalone nor kubernetes"),
        ),
        flags(
            "an address that is none",
            &[
                "--dapr-public-port",
                "0",
                "--dapr-public-listen-address",
                "999.1.1.1",
            ],
            Ends(1, "could not listen on 999.1.1.1"),
        ),
        flags(
            "a folder for sockets that is not there",
            &["--unix-domain-socket", "/nowhere"],
            Ends(1, "could not listen on the unix socket /nowhere/"),
        ),
        flags(
            "encryption that we lack",
            &["--enable-mtls"],
            Ends(1, "is not available in this version of Outrigger"),
        ),
        flags(
            "a flag without effect",
            &["--placement-host-address", "localhost:50005"],
            Serves("--placement-host-address has no effect"),
        ),
        flags(
            "a malformed configuration",
            &["--config", &malformed],
            Ends(1, "error loading configuration"),
        ),
        flags(
            "a rule for nobody in particular",
            &["--config", &access],
            Ends(
                1,
                "invalid access control spec. missing trustdomain for apps: [shop], missing namespace for apps: [shop]",
            ),
        ),
        flags(
            "a scope that is none",
            &["--config", &sampling],
            Ends(1, "defaultAccess perhaps can be either allow or deny"),
        ),
    ];
    table(rows).await;
    for (app_id, text) in [("", "app-id must be set"), ("a.b", "dots are not allowed")] {
        let cluster = Cluster::new();
        let mut process =
            Process::new("nameless", outrigger(), cluster.folder()).args(["daprd", "--app-id", app_id]);
        ends(&mut process, 1, text, "a wrong app id").await;
    }
}

async fn table(rows: Vec<Row>) {
    for Row {
        what,
        files,
        flags,
        expect,
    } in rows
    {
        let cluster = Cluster::new();
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let folder = cluster.resources("resources", &files);
        let mut sidecar = cluster.sidecar(&Spec {
            app_id: "shop",
            resources: (!flags.contains(&"--resources-path")).then_some(folder.as_path()),
            flags: &flags,
            ..Spec::default()
        });
        match expect {
            Ends(code, text) => ends(&mut sidecar.process, code, text, what).await,
            Serves(text) => {
                sidecar.start().await;
                sidecar.process.says(text, SOON).await;
                if let Some((_, good)) = files.iter().find(|(name, _)| *name == "b.yaml") {
                    assert!(good.contains("name: store"));
                    let metadata = Client::new(SOON)
                        .get(&sidecar.url("/v1.0/metadata"))
                        .await
                        .unwrap();
                    assert!(
                        metadata.text().contains("\"name\":\"store\""),
                        "{what}: {}",
                        metadata.text()
                    );
                }
                sidecar.process.terminate();
                assert_eq!(
                    sidecar.process.exit(SOON).await.code(),
                    Some(0),
                    "{what}: {}",
                    sidecar.process.tail()
                );
            }
        }
    }
}

async fn ends(process: &mut Process, code: i32, text: &str, what: &str) {
    process.start();
    let status = process.exit(SOON).await;
    let output = process.output();
    assert_eq!(status.code(), Some(code), "{what}: {output}");
    assert!(output.contains(text), "{what}: {text:?} is not in\n{output}");
    assert!(!output.contains("panicked"), "{what}: {output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_that_are_taken() {
    let taken = Port::take();
    let _listener = TcpListener::bind(("127.0.0.1", taken.number())).unwrap();
    let number = taken.number().to_string();
    let ports = [
        ("--dapr-http-port", "for the HTTP API"),
        ("--dapr-grpc-port", "for the gRPC API"),
        ("--dapr-internal-grpc-port", "for the internal gRPC server"),
        ("--metrics-port", "for the metrics"),
        ("--dapr-public-port", "for the public API"),
    ];
    for (flag, text) in ports {
        let cluster = Cluster::new();
        let free: Vec<Port> = ports.iter().map(|_| Port::take()).collect();
        let mut process = Process::new("shop", outrigger(), cluster.folder())
            .args([
                "daprd",
                "--app-id",
                "shop",
                "--dapr-listen-addresses",
                "127.0.0.1",
            ])
            .args([
                "--dapr-internal-grpc-listen-address",
                "127.0.0.1",
                "--metrics-listen-address",
                "127.0.0.1",
            ])
            .args(["--dapr-public-listen-address", "127.0.0.1"]);
        for ((other, _), free) in ports.iter().zip(&free) {
            let port = if *other == flag {
                number.clone()
            } else {
                free.number().to_string()
            };
            process = process.args([*other, &port]);
        }
        let text = format!("could not listen on 127.0.0.1:{number} {text}");
        ends(&mut process, 1, &text, flag).await;
        assert!(
            process
                .output()
                .contains(&format!("choose another port with {flag}")),
            "{}",
            process.output()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_and_hub() {
    let cluster = Cluster::new();
    let home = cluster.folder().display().to_string();
    let file = cluster.folder().join("file");
    std::fs::write(&file, "").unwrap();
    let (file, long) = (file.display().to_string(), format!("{home}/{}", "x".repeat(120)));
    let rows: [(&str, &[&str], i32, &str); 8] = [
        ("no command", &[], 2, "Usage"),
        ("an unknown command", &["launch"], 2, "launch"),
        (
            "an unknown flag",
            &["list", "--no-such-flag"],
            2,
            "--no-such-flag",
        ),
        (
            "an unknown flag of the hub",
            &["hub", "--no-such-flag"],
            2,
            "--no-such-flag",
        ),
        (
            "a policy that is none",
            &["hub", "--home", &home, "--fsync", "never"],
            2,
            "say always, interval or interval=50ms",
        ),
        (
            "a duration that is none",
            &["hub", "--home", &home, "--idle-after", "later"],
            2,
            "write for example 500ms",
        ),
        ("a file for a home", &["hub", "--home", &file], 1, &file),
        (
            "a home too long for a socket",
            &["hub", "--home", &long],
            1,
            "choose a shorter --home",
        ),
    ];
    for (what, args, code, text) in rows {
        let mut process = Process::new("outrigger", outrigger(), cluster.folder()).args(args);
        ends(&mut process, code, text, what).await;
        std::fs::remove_file(cluster.folder().join("outrigger.log")).unwrap();
    }
    // Two hubs on one folder: the second says who is there, and the first does not notice.
    let mut first = cluster.hub();
    first.start();
    let resources = cluster.embedded();
    let mut sidecar = cluster.sidecar(&Spec {
        app_id: "shop",
        resources: Some(&resources),
        hub: true,
        ..Spec::default()
    });
    sidecar.start().await;
    let mut second = Process::new("second", outrigger(), cluster.folder()).args(["hub", "--home", &home]);
    ends(&mut second, 1, &first.id().to_string(), "a second hub").await;
    assert!(first.ended().is_none());
    sidecar.ready().await;
}
