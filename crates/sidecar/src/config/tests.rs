use super::{Config, Environment, Error, Internal, Listen, Protocol, address};
use crate::flags::Flags;
use std::time::Duration;

fn environment(variables: &'static [(&'static str, &'static str)]) -> Environment {
    let lookup = move |name: &str| {
        variables
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| (*value).to_owned())
    };
    Environment::new(lookup, "/work".into(), "host".into(), 1000)
}

fn resolve(line: &str) -> Result<(Config, Vec<String>), Error> {
    let flags = Flags::parse_from_args(line.split_whitespace().map(Into::into)).expect("flags");
    Config::resolve(
        flags,
        &environment(&[("DAPR_API_TOKEN", "secret"), ("NAMESPACE", "")]),
    )
}

#[test]
fn what_cannot_start_says_why() {
    for (line, expected) in [
        ("", "app-id must be set: give the app a unique name with --app-id"),
        ("--app-id a.b", "invalid app-id \"a.b\": dots are not allowed"),
        (
            "--app-id a --dapr-http-port x",
            "error parsing dapr-http-port: \"x\" is not a port number (0 to 65535)",
        ),
        (
            "--app-id a --app-port 3500",
            "the 'dapr-http-port' argument value 3500 conflicts with 'app-port'",
        ),
        (
            "--app-id a --app-port 50001",
            "the 'dapr-grpc-port' argument value 50001 conflicts with 'app-port'",
        ),
        (
            "--app-id a --app-protocol ftp",
            "invalid value for 'app-protocol' option: \"ftp\" is none of http, https, h2c, grpc, grpcs",
        ),
        (
            "--app-id a --mode swarm",
            "invalid value for 'mode' option: \"swarm\" is neither standalone nor kubernetes",
        ),
        (
            "--app-id a --mode kubernetes",
            "--mode=kubernetes is not available in this version of Outrigger",
        ),
        (
            "--app-id a --enable-mtls",
            "--enable-mtls (encryption between sidecars) is not available in this version of Outrigger",
        ),
        (
            "--app-id a --actors-disseminate-timeout 0s",
            "invalid value for 'actors-disseminate-timeout' option: must be positive, got 0s",
        ),
    ] {
        let error = resolve(line).map(|_| ()).expect_err(line);
        assert_eq!(error.to_string(), expected, "{line}");
    }
}

#[test]
fn sizes() {
    for (line, expected) in [
        ("", 4 << 20),
        ("--max-body-size 16Mi", 16 << 20),
        ("--max-body-size 1k", 1000),
        ("--max-body-size -1", 4 << 20),
        ("--dapr-http-max-request-size 8", 8 << 20),
        ("--dapr-http-max-request-size 8 --max-body-size 1Mi", 1 << 20),
    ] {
        assert_eq!(
            resolve(&format!("--app-id a {line}")).expect(line).0.body_limit,
            expected,
            "{line}"
        );
    }
    assert!(resolve("--app-id a --max-body-size huge").is_err());
}

#[test]
fn zero_means_default_for_health_probes() {
    let line = "--app-id a --app-port 80 --enable-app-health-check --app-health-probe-interval=0 --app-health-threshold=0";
    let health = resolve(line)
        .expect(line)
        .0
        .app
        .expect("app")
        .health
        .expect("health");
    assert_eq!((health.interval, health.threshold), (Duration::from_secs(5), 3));
}

#[test]
fn options_without_effect_say_so_once() {
    let (config, warnings) =
        resolve("--app-id a --placement-host-address x:1 --enable-profiling").expect("resolves");
    assert_eq!(warnings.len(), 2);
    assert!(
        warnings[0].contains("--placement-host-address has no effect: actors"),
        "{}",
        warnings[0]
    );
    assert!(!format!("{config:?}").contains("secret"), "tokens are not shown");
}

#[test]
fn app_and_listeners() {
    let (config, _) =
        resolve("--app-id a --app-port 8080 --app-protocol h2c --dapr-listen-addresses 127.0.0.1,::1")
            .expect("ok");
    assert_eq!(config.app.map(|app| app.protocol), Some(Protocol::H2c));
    assert_eq!(config.listen, Listen::Tcp(vec!["127.0.0.1".into(), "::1".into()]));
    assert_eq!(address("::1", 80), "[::1]:80");
    assert_eq!(address("", 80), "[::]:80");
}

/// One app id, folder, user and host: always the same port.
#[test]
fn the_internal_port_follows_the_app_id() {
    let port = |id: &str| match resolve(&format!("--app-id {id}")).expect(id).0.internal_port {
        Internal::Preferably(port) => port,
        Internal::Exactly(port) => panic!("{port} was not asked for"),
    };
    assert_eq!(port("a"), port("a"));
    assert_ne!(port("a"), port("b"));
    assert!((47300..65535).contains(&port("a")));
}
