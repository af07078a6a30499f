use super::{Statements, Target, table};
use crate::tls::Check;
use outrigger_component::error::Kind;
use outrigger_component::metadata::Metadata;
use std::time::Duration;
use tokio_postgres::config::{Host, SslMode};

fn read(metadata: &[(&str, &str)]) -> Result<Target, outrigger_component::error::Error> {
    let metadata: Metadata = metadata.iter().copied().collect();
    Target::read(&metadata, &outrigger_testkit::log::captured().0)
}

/// user, password, database, host, port.
fn shown(target: &Target) -> String {
    let client = &target.client;
    let host = match client.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(path)) => path.display().to_string(),
        None => String::new(),
    };
    let password = client.get_password().unwrap_or_default();
    format!(
        "{} {} {} {host} {}",
        client.get_user().unwrap_or_default(),
        String::from_utf8_lossy(password),
        client.get_dbname().unwrap_or_default(),
        client.get_ports()[0]
    )
}

#[test]
fn connection_strings() {
    for (metadata, expected) in [
        (
            &[(
                "connectionString",
                "host=h user=u password=p port=5433 database=d",
            )][..],
            "u p d h 5433",
        ),
        (
            &[("url", "user=u  password='a b\\'c' dbname=d")],
            "u a b'c d localhost 5432",
        ),
        (
            &[("connectionString", "postgres://u:p%40@h:1/d?sslmode=disable")],
            "u p@ d h 1",
        ),
        (&[("connectionString", "postgresql://u@[::1]:1/d")], "u  d ::1 1"),
        (
            &[
                ("connectionString", "postgres://u:p@h:1/d"),
                ("host", "other"),
                ("user", "w"),
            ],
            "w p d other 5432",
        ),
        (
            &[
                ("connectionString", "host=h user=u port=1"),
                ("host", "other"),
                ("database", "e"),
            ],
            "u  e other 1",
        ),
        (
            &[
                ("host", "h"),
                ("user", "u"),
                ("password", "p"),
                ("database", "d"),
                ("port", "9"),
            ],
            "u p d h 9",
        ),
        (
            &[("connectionString", "user=u hostaddr=127.0.0.1")],
            "u   127.0.0.1 5432",
        ),
        (
            &[("connectionString", "user=u host=/var/run/postgresql")],
            "u   /var/run/postgresql 5432",
        ),
    ] {
        let target = read(metadata).unwrap_or_else(|error| panic!("{metadata:?}: {error}"));
        assert_eq!(shown(&target), expected, "{metadata:?}");
    }
}

#[test]
fn session_settings_and_habits() {
    let target = read(&[(
        "connectionString",
        "user=u search_path=a\\ b options='-c work_mem=1MB' connect_timeout=3 pool_max_conns=7 \
         pool_max_conn_idle_time=5m default_query_exec_mode=exec",
    )])
    .unwrap();
    assert_eq!(
        target.client.get_options(),
        Some("-c work_mem=1MB -c search_path=a\\ b")
    );
    assert_eq!(target.client.get_connect_timeout(), Some(&Duration::from_secs(3)));
    assert_eq!((target.connections, target.max_idle.as_secs()), (7, 300));
    assert_eq!(target.statements, Statements::Unnamed);
    let target = read(&[
        ("connectionString", "user=u"),
        ("maxConns", "1"),
        ("connectionMaxIdleTime", "10s"),
        ("timeoutInSeconds", "7"),
    ])
    .unwrap();
    assert!(target.connections >= 4);
    assert_eq!((target.max_idle.as_secs(), target.timeout.as_secs()), (10, 7));
    assert_eq!(target.statements, Statements::Named);
}

#[test]
fn tls_modes() {
    for (text, mode, check) in [
        ("", SslMode::Prefer, Check::Nothing),
        ("sslmode=disable", SslMode::Disable, Check::Nothing),
        ("sslmode=allow", SslMode::Prefer, Check::Nothing),
        ("sslmode=require", SslMode::Require, Check::Nothing),
        (
            "sslmode=require sslrootcert=ca.pem",
            SslMode::Require,
            Check::Authority,
        ),
        (
            "sslmode=verify-ca sslrootcert=ca.pem",
            SslMode::Require,
            Check::Authority,
        ),
        ("sslmode=verify-ca", SslMode::Require, Check::Host),
        (
            "sslmode=verify-full sslrootcert=system",
            SslMode::Require,
            Check::Host,
        ),
    ] {
        let target = read(&[("connectionString", &format!("user=u {text}"))]).unwrap();
        assert_eq!(
            (target.client.get_ssl_mode(), target.check),
            (mode, check),
            "{text}"
        );
    }
}

#[test]
fn refused() {
    for (metadata, kind, text) in [
        (&[][..], Kind::Invalid, "failed to build connection string"),
        (&[("host", "h")], Kind::Invalid, "set metadata user"),
        (
            &[("connectionString", "nonsense hunter2")],
            Kind::Invalid,
            "there must be an =",
        ),
        (
            &[("connectionString", "user=u password='hunter2")],
            Kind::Invalid,
            "does not end",
        ),
        (
            &[("connectionString", "user=u port=many")],
            Kind::Invalid,
            "port of the PostgreSQL connection cannot be \"many\"",
        ),
        (
            &[("connectionString", "user=u sslmode=maybe")],
            Kind::Invalid,
            "sslmode",
        ),
        (
            &[("connectionString", "user=u"), ("timeout", "10ms")],
            Kind::Invalid,
            "must be greater than 1s",
        ),
        (
            &[("connectionString", "user=u"), ("queryExecMode", "x")],
            Kind::Invalid,
            "invalid queryExecMode metadata value: x",
        ),
        (
            &[("connectionString", "user=u"), ("useAzureAD", "true")],
            Kind::Unsupported,
            "Entra ID",
        ),
        (
            &[("connectionString", "user=u"), ("useAWSIAM", "true")],
            Kind::Unsupported,
            "AWS IAM",
        ),
    ] {
        let error = read(metadata)
            .err()
            .unwrap_or_else(|| panic!("{metadata:?} is refused"));
        assert_eq!(error.kind, kind, "{metadata:?}: {error}");
        assert!(error.message.contains(text), "{metadata:?}: {error}");
        assert!(!error.message.contains("hunter2"), "{error}");
    }
}

#[test]
fn tables() {
    for (name, fits) in [
        ("state", true),
        ("public.state", true),
        ("\"Odd name\".state", true),
        ("my_state$1", true),
        ("", false),
        ("a.b.c.d", false),
        ("state; DROP TABLE x", false),
        ("a.\"b", false),
        ("\"\"", false),
    ] {
        assert_eq!(table("tableName", name).is_ok(), fits, "{name}");
    }
}
