use super::*;
use outrigger_component::metadata::{self, Metadata};
use outrigger_testkit::log;

fn pubsub(pairs: &[(&str, &str)]) -> PubSub {
    metadata::decode(&Metadata::from_iter(pairs.iter().copied())).unwrap()
}

fn binding(pairs: &[(&str, &str)]) -> Binding {
    metadata::decode(&Metadata::from_iter(pairs.iter().copied())).unwrap()
}

#[test]
fn who_we_are() {
    for (pairs, user, password, clean) in [
        (&[("url", "tcp://h")][..], None, None, false),
        (
            &[("url", "mqtts://u:p@h"), ("cleanSession", "true")],
            Some("u"),
            Some("p"),
            true,
        ),
        (&[("URL", "tcp://:p@h")], None, None, false),
    ] {
        let broker = pubsub(pairs).broker("me", &log::captured().0).unwrap();
        let hello = &broker.hello;
        assert_eq!(
            (hello.user.as_deref(), hello.password.as_deref(), hello.clean),
            (user, password, clean)
        );
        assert_eq!(hello.client, "me");
        assert!(!format!("{broker:?} {:?}", pubsub(pairs)).contains("u:p"));
    }
    let pairs = [("url", "tcp://h:7"), ("topic", "t"), ("consumerID", "me")];
    let broker = binding(&pairs).broker("producer", &log::captured().0).unwrap();
    assert_eq!(
        (broker.hello.client.as_str(), broker.address()),
        ("me-producer", "h:7")
    );
}

#[test]
fn refused() {
    for (pairs, expected) in [
        (&[][..], "missing url"),
        (
            &[("url", "h:1883")],
            "invalid metadata url: it must be written like tcp://",
        ),
        (
            &[("url", "ssl://h"), ("caCert", "x")],
            "caCert holds no certificate in PEM form",
        ),
        (
            &[("url", "ssl://h"), ("clientKey", "x")],
            "clientKey is set, but clientCert is not",
        ),
    ] {
        let error = pubsub(pairs).broker("me", &log::captured().0).unwrap_err();
        assert!(error.message.contains(expected), "{}", error.message);
    }
    for (pairs, expected) in [
        (&[("url", "tcp://h"), ("consumerID", "c")][..], "missing topic"),
        (&[("url", "tcp://h"), ("topic", "t")], "missing consumerID"),
        (&[("topic", "t"), ("consumerID", "c")], "missing url"),
    ] {
        let error = binding(pairs).broker("producer", &log::captured().0).unwrap_err();
        assert!(error.message.contains(expected), "{}", error.message);
    }
}

#[test]
fn qualities_of_service() {
    for (text, expected) in [
        ("0", Some(Qos::Zero)),
        ("", Some(Qos::One)),
        ("2", Some(Qos::Two)),
        ("3", None),
    ] {
        assert_eq!(pubsub(&[("qos", text)]).qos().ok(), expected, "{text}");
    }
}

#[test]
fn retries() {
    for (text, expected) in [("", None), ("-1", None), ("0", Some(0)), ("3", Some(3))] {
        assert_eq!(
            binding(&[("backOffMaxRetries", text)]).retries(),
            expected,
            "{text}"
        );
    }
}

#[test]
fn what_has_no_effect_is_said() {
    let (log, lines) = log::captured();
    pubsub(&[("url", "tcp://h"), ("caCert", "x")])
        .broker("me", &log)
        .unwrap();
    let pairs = [
        ("url", "tcp://h"),
        ("topic", "t"),
        ("consumerID", "me"),
        ("qos", "2"),
    ];
    binding(&pairs).broker("producer", &log).unwrap();
    let text = lines.text();
    assert!(text.contains("no effect without ssl://"), "{text}");
    assert!(text.contains("'qos' has been deprecated"), "{text}");
}
