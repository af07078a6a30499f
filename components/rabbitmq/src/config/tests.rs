use super::*;
use outrigger_component::metadata::Metadata;
use outrigger_testkit::log;

fn pubsub(pairs: &[(&str, &str)]) -> PubSub {
    metadata::decode(&Metadata::from_iter(pairs.iter().copied())).unwrap()
}

fn access(pairs: &[(&str, &str)]) -> Result<Access> {
    pubsub(pairs).access(&log::captured().0)
}

#[test]
fn where_the_broker_is() {
    for (pairs, expected) in [
        (&[][..], ("localhost:5672", "guest", "guest")),
        (&[("host", "amqp://a:b@h")], ("h:5672", "a", "b")),
        (
            &[
                ("connectionString", "amqp://a:b@h"),
                ("host", "amqp://x"),
                ("protocol", "amqp"),
            ],
            ("h:5672", "a", "b"),
        ),
        (
            &[("hostname", "h:1"), ("username", "u"), ("password", "p")],
            ("h:1", "u", "p"),
        ),
        (
            &[("hostname", "h"), ("password", "p")],
            ("h:5672", "guest", "guest"),
        ),
        (
            &[("hostname", "h"), ("protocol", "amqps")],
            ("h:5671", "guest", "guest"),
        ),
    ] {
        let access = access(pairs).unwrap();
        let Proof::Password { user, password } = &access.login.proof else {
            panic!("{pairs:?}: by certificate");
        };
        assert_eq!(
            (access.uri.address().as_str(), user.as_str(), password.as_str()),
            expected,
            "{pairs:?}"
        );
        assert_eq!(access.tls.is_some(), access.uri.secure);
    }
}

#[test]
fn refused() {
    for (pairs, expected) in [
        (
            &[("connectionString", "h:1")][..],
            "invalid connection string in metadata connectionString",
        ),
        (
            &[("connectionString", "amqp://hunter2@h"), ("protocol", "amqps")],
            "protocol does not match connection string, protocol: amqps",
        ),
        (
            &[("protocol", "http"), ("hostname", "h")],
            "metadata protocol is \"http\"",
        ),
        (&[("deliveryMode", "3")], "accepted values are between 0 and 2"),
        (&[("exchangeKind", "x")], "invalid RabbitMQ exchange kind x"),
        (
            &[("saslExternal", "true")],
            "when all these properties are set: caCert, clientCert, clientKey",
        ),
        (
            &[("protocol", "amqps"), ("caCert", "x")],
            "caCert holds no certificate in PEM form",
        ),
        (
            &[("protocol", "amqps"), ("clientCert", "x")],
            "clientCert is set, but clientKey is not",
        ),
    ] {
        let error = access(pairs).unwrap_err();
        assert!(error.message.contains(expected), "{}", error.message);
        assert!(!error.message.contains("hunter2"), "{}", error.message);
    }
    let error = pubsub(&[("concurrencyMode", "twice")]).concurrency().unwrap_err();
    assert_eq!(error.message, "invalid concurrencyMode twice");
    let binding: Binding = metadata::decode(&Metadata::new()).unwrap();
    let error = binding.access(&log::captured().0).unwrap_err();
    assert!(
        error.message.contains("missing host address"),
        "{}",
        error.message
    );
}

#[test]
fn times() {
    let read = access(&[("reconnectWaitSeconds", "7"), ("heartBeat", "30s")]).unwrap();
    assert_eq!(
        (read.reconnect_wait, read.login.heartbeat),
        (Duration::from_secs(7), Duration::from_secs(30))
    );
    let read = access(&[("connectionString", "amqp://h?heartbeat=5"), ("heartBeat", "30s")]).unwrap();
    assert_eq!(
        (read.reconnect_wait, read.login.heartbeat),
        (Duration::from_secs(3), Duration::from_secs(5))
    );
}

#[test]
fn both_names_for_concurrency() {
    for (pairs, expected) in [
        (&[][..], Concurrency::Parallel),
        (&[("concurrencyMode", "single")], Concurrency::Single),
        (&[("concurrency", "single")], Concurrency::Single),
        (
            &[("concurrency", "single"), ("concurrencyMode", "parallel")],
            Concurrency::Parallel,
        ),
    ] {
        assert_eq!(pubsub(pairs).concurrency().unwrap(), expected, "{pairs:?}");
    }
}

#[test]
fn what_has_no_effect_is_said() {
    let (log, lines) = log::captured();
    pubsub(&[("caCert", "x"), ("host", "amqp://h")])
        .access(&log)
        .unwrap();
    let text = lines.text();
    assert!(text.contains("no effect without amqps://"), "{text}");
    assert!(text.contains("metadata host is deprecated"), "{text}");
}

#[test]
fn secrets_are_not_printed() {
    let pairs = [
        ("connectionString", "amqp://u:hunter2@h"),
        ("password", "hunter2"),
        ("clientKey", "hunter2"),
    ];
    let config = pubsub(&pairs);
    let printed = format!("{config:?} {:?}", config.access(&log::captured().0).unwrap());
    assert!(
        printed.contains("***") && !printed.contains("hunter2"),
        "{printed}"
    );
}
