use super::{App, Chosen, Ports, app};
use crate::home::Home;
use crate::http::Place;
use crate::run::options::{Shared, Single};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// An app with nothing said but these.
fn resolve(single: Single, shared: Shared) -> anyhow::Result<App> {
    let folder = tempfile::tempdir().unwrap();
    app(
        single,
        shared,
        folder.path(),
        &Home::at(folder.path().join("home")),
        &[],
        &mut Chosen::default(),
    )
}

#[test]
fn every_port_is_free_and_its_own() {
    let app = resolve(Single::default(), Shared::default()).unwrap();
    let Ports {
        app: port,
        http,
        grpc,
        internal,
        metrics,
        profile,
    } = app.ports;
    assert_eq!((port, profile), (0, 0));
    let mut ports = vec![http, grpc, internal, metrics];
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 4);
    assert!(!ports.contains(&0));
    assert!(app.id.split('-').count() == 3, "{}", app.id);
    assert!(app.resources[0].ends_with("home/defaults"));
}

#[test]
fn a_port_in_use_is_refused_and_named() {
    let listener = TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let single = Single {
        app_id: Some("a".into()),
        dapr_http_port: Some(port.into()),
        ..Single::default()
    };
    let error = format!("{:#}", resolve(single, Shared::default()).unwrap_err());
    assert!(
        error.contains(&format!(
            "port {port} (--dapr-http-port) for app \"a\" cannot be used"
        )),
        "{error}"
    );

    let single = Single {
        metrics_port: Some(70000),
        ..Single::default()
    };
    let error = format!("{:#}", resolve(single, Shared::default()).unwrap_err());
    assert!(error.contains("--metrics-port: 70000 is not a port"), "{error}");
}

#[test]
fn what_does_not_exist_is_refused() {
    let shared = Shared {
        resources_paths: vec!["none".into()],
        ..Shared::default()
    };
    let error = format!("{:#}", resolve(Single::default(), shared).unwrap_err());
    assert!(error.contains("cannot read the resources"), "{error}");
    let shared = Shared {
        config: Some("none.yaml".into()),
        ..Shared::default()
    };
    let error = format!("{:#}", resolve(Single::default(), shared).unwrap_err());
    assert!(error.contains("is not a file"), "{error}");
}

fn sample() -> App {
    App {
        id: "shop".into(),
        folder: "/apps/shop".into(),
        command: vec!["true".into()],
        ports: Ports {
            app: 8080,
            http: 3500,
            grpc: 50001,
            internal: 50002,
            metrics: 9090,
            profile: 0,
        },
        resources: vec!["/r".into(), "/s".into()],
        configuration: None,
        channel_address: "127.0.0.1".into(),
        unix_socket: None,
        shared: Shared::default(),
    }
}

fn arguments(app: &App) -> String {
    app.arguments()
        .iter()
        .map(|arg| arg.to_str().unwrap())
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn the_sidecars_arguments() {
    let base = "--app-id shop --app-port 8080 --dapr-http-port 3500 --dapr-grpc-port 50001 \
                --dapr-internal-grpc-port 50002 --metrics-port 9090 --resources-path /r --resources-path /s";
    assert_eq!(arguments(&sample()), base);

    let cases: [(&str, Shared); 6] = [
        (
            "--app-protocol grpc",
            Shared {
                app_protocol: Some("grpc".into()),
                ..Shared::default()
            },
        ),
        (
            "--max-body-size -1",
            Shared {
                max_body_size: Some("-1".into()),
                ..Shared::default()
            },
        ),
        (
            "",
            Shared {
                placement_host_address: Some(" ".into()),
                app_max_concurrency: Some(-1),
                ..Shared::default()
            },
        ),
        (
            "--app-max-concurrency 3",
            Shared {
                app_max_concurrency: Some(3),
                ..Shared::default()
            },
        ),
        (
            "--enable-api-logging=false",
            Shared {
                enable_api_logging: Some(false),
                ..Shared::default()
            },
        ),
        (
            "--app-health-threshold 2",
            Shared {
                app_health_threshold: Some(2),
                ..Shared::default()
            },
        ),
    ];
    for (expected, shared) in cases {
        let found = arguments(&App { shared, ..sample() });
        assert_eq!(found.strip_prefix(base).unwrap().trim(), expected);
    }
}

#[test]
fn sockets_instead_of_ports() {
    let single = Single {
        app_id: Some("a".into()),
        unix_domain_socket: Some("/tmp".into()),
        ..Single::default()
    };
    let app = resolve(single, Shared::default()).unwrap();
    assert_eq!((app.ports.http, app.ports.grpc), (0, 0));
    assert_eq!(
        app.place(),
        Place::Socket(PathBuf::from("/tmp/dapr-a-http.socket"))
    );
    assert!(arguments(&app).contains("--unix-domain-socket /tmp"));
    assert!(!app.environment().iter().any(|(name, _)| name == "DAPR_HTTP_PORT"));
}

#[test]
fn the_apps_environment() {
    let shared = Shared {
        app_protocol: Some("HTTP".into()),
        app_ssl: Some(true),
        env: [("DAPR_HTTP_PORT".to_owned(), "own".to_owned())].into(),
        ..Shared::default()
    };
    let found = App { shared, ..sample() }.environment();
    let found: Vec<_> = found
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        found,
        [
            "APP_ID=shop",
            "APP_CHANNEL_ADDRESS=127.0.0.1",
            "APP_PROTOCOL=https",
            "APP_PORT=8080",
            "DAPR_HTTP_PORT=3500",
            "DAPR_GRPC_PORT=50001",
            "DAPR_METRICS_PORT=9090",
            "DAPR_HTTP_PORT=own",
        ]
    );
    assert_eq!(sample().place(), Place::Port(3500));
    assert_eq!(sample().folder, Path::new("/apps/shop"));
}
