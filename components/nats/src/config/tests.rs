use super::{Acks, Begin, Concurrency, Config, Secret};
use outrigger_component::metadata::{self, Metadata};
use std::time::Duration;

fn config(pairs: &[(&str, &str)]) -> Config {
    let metadata: Metadata = pairs.iter().copied().collect();
    metadata::decode(&metadata).unwrap()
}

#[test]
fn servers_and_secrets() {
    for (url, expected, secret) in [
        ("nats://localhost:4222", "localhost:4222", ""),
        ("localhost", "localhost:4222", ""),
        ("tls://a:1, nats://b:2,c:3", "a:1+ b:2 c:3", ""),
        ("nats://[::1]:4333", "::1:4333", ""),
        ("nats://bob:p%40ss@a,b", "a:4222 b:4222", "bob/p@ss"),
        ("nats://bob:p@ss@a", "a:4222", "bob/p@ss"),
        ("nats://s3cr3t@a", "a:4222", "s3cr3t"),
        ("a,nats://s3cr3t@b", "a:4222 b:4222", "s3cr3t"),
    ] {
        let servers = config(&[("natsURL", url)]).servers().unwrap();
        let told: Vec<String> = servers
            .addresses
            .iter()
            .map(|address| {
                let tls = if address.tls_required() { "+" } else { "" };
                format!("{}:{}{tls}", address.host(), address.port())
            })
            .collect();
        assert_eq!(told.join(" "), expected, "{url}");
        let found = match servers.secret {
            None => String::new(),
            Some(Secret::Token(token)) => token,
            Some(Secret::Password(user, password)) => format!("{user}/{password}"),
        };
        assert_eq!(found, secret, "{url}");
    }
    for url in [
        "ws://a",
        "http://a",
        "nats://",
        "nats://s3cr3t@",
        "nats://bob:s3cr3t@a:port",
        "a,,b",
    ] {
        let error = config(&[("natsURL", url)]).servers().err().expect(url);
        assert!(
            error.message.contains("natsURL") && !error.message.contains("s3cr3t"),
            "{url}: {}",
            error.message
        );
    }
}

#[test]
fn halves_are_refused_in_the_words_of_the_reference() {
    for (pairs, expected) in [
        (&[][..], "missing nats URL"),
        (&[("natsURL", "a"), ("jwt", "x")], "missing seed key"),
        (&[("natsURL", "a"), ("seedKey", "x")], "missing jwt"),
        (
            &[("natsURL", "a"), ("tls_client_cert", "x")],
            "missing tls client key",
        ),
        (
            &[("natsURL", "a"), ("tls_client_key", "x")],
            "missing tls client cert",
        ),
    ] {
        assert_eq!(config(pairs).check().unwrap_err().message, expected);
    }
    config(&[("natsURL", "a"), ("jwt", "x"), ("SEEDKEY", "y")])
        .check()
        .unwrap();
}

#[test]
fn policies_and_times() {
    let all = config(&[
        ("deliverPolicy", "sequence"),
        ("startSequence", "7"),
        ("ackPolicy", "all"),
        ("ackWait", "90s"),
        ("backOff", "[1s, 2s,500ms]"),
        ("heartbeat", "5"),
        ("concurrencyMode", "parallel"),
        ("domain", "d"),
    ]);
    assert_eq!(all.begin().unwrap(), Begin::Sequence);
    assert_eq!((all.start_sequence, all.acks()), (Some(7), Acks::All));
    assert_eq!(all.ack_wait, Some(Duration::from_secs(90)));
    assert_eq!(all.back_off, [1000, 2000, 500].map(Duration::from_millis));
    assert_eq!(all.heartbeat, Some(Duration::from_secs(5)));
    assert_eq!(all.concurrency().unwrap(), Concurrency::Parallel);
    assert_eq!(all.api(), "$JS.d.API.");
    let none = config(&[("ackPolicy", "odd"), ("backOff", ""), ("apiPrefix", "$JS.d.API.")]);
    assert_eq!(none.begin().unwrap(), Begin::All);
    assert_eq!(none.acks(), Acks::Explicit);
    assert!(none.back_off.is_empty());
    assert_eq!(none.concurrency().unwrap(), Concurrency::Single);
    assert_eq!(none.api(), "$JS.d.API.");
    assert_eq!(
        config(&[("deliverPolicy", "first")]).begin().unwrap_err().message,
        "deliver policy first is not one of: all, last, new, sequence, time"
    );
    assert!(config(&[("concurrency", "many")]).concurrency().is_err());
    let odd: Metadata = [("backOff", "1s,soon")].into_iter().collect();
    assert!(
        metadata::decode::<Config>(&odd)
            .unwrap_err()
            .message
            .contains("backOff")
    );
}

#[test]
fn secrets_are_not_printed() {
    let printed = format!(
        "{:?}",
        config(&[
            ("natsURL", "nats://u:hunter2@a"),
            ("jwt", "hunter2"),
            ("token", "hunter2"),
            ("seedKey", "hunter2")
        ])
    );
    assert!(!printed.contains("hunter2"), "{printed}");
}
