use super::*;
use outrigger_component::metadata::Metadata;
use outrigger_testkit::log;

fn config(pairs: &[(&str, &str)]) -> Config {
    metadata::decode(&Metadata::from_iter(pairs.iter().copied())).unwrap()
}

#[test]
fn addresses() {
    for (pairs, expected) in [
        (&[("redisHost", "h")][..], Ok(("h", 6379))),
        (&[("redishost", "h:1")], Ok(("h", 1))),
        (&[("redisHost", "h"), ("redisPort", "2")], Ok(("h", 2))),
        (&[("redisHost", "h:2"), ("redisPort", "2")], Ok(("h", 2))),
        (&[("redisHost", "[::1]:3")], Ok(("::1", 3))),
        (&[("redisHost", "[::1]")], Ok(("::1", 6379))),
        (&[("redisHost", "::1")], Ok(("::1", 6379))),
        (&[], Err("\"redisHost\" is missing")),
        (&[("redisHost", "a:1,b:2")], Err("names several hosts")),
        (&[("redisHost", "h:x")], Err("has no port but \"x\"")),
        (
            &[("redisHost", "h:1"), ("redisPort", "2")],
            Err("already contains port 1, but redisPort is set to 2"),
        ),
    ] {
        match (config(pairs).address(), expected) {
            (Ok((host, port)), Ok(expected)) => assert_eq!((host.as_str(), port), expected),
            (Err(error), Err(expected)) => assert!(error.message.contains(expected), "{}", error.message),
            (result, _) => panic!("{pairs:?}: {result:?}"),
        }
    }
}

#[test]
fn spans() {
    for (text, expected) in [
        ("", Span::Unset),
        ("-1", Span::Off),
        ("0", Span::Is(Duration::ZERO)),
        ("250", Span::Is(Duration::from_millis(250))),
        ("1m30s", Span::Is(Duration::from_secs(90))),
    ] {
        assert_eq!(
            config(&[("processingTimeout", text)]).processing_timeout,
            expected,
            "{text}"
        );
    }
    let error = metadata::decode::<Config>(&Metadata::from_iter([("dialTimeout", "soon")])).unwrap_err();
    assert!(error.message.contains("soon"), "{}", error.message);
}

#[test]
fn retries() {
    for (pairs, expected) in [
        (&[][..], 3),
        (&[("redisMaxRetries", "5")], 5),
        (&[("redisMaxRetries", "-1")], 0),
        (&[("maxRetries", "7")], 7),
        (&[("maxRetries", "7"), ("redisMaxRetries", "1")], 1),
    ] {
        assert_eq!(config(pairs).retries(), expected, "{pairs:?}");
    }
}

#[test]
fn what_is_not_available_is_named() {
    for (name, value, expected) in [
        ("enableTLS", "true", "enableTLS"),
        ("failover", "true", "failover"),
        ("useEntraID", "true", "useEntraID"),
        ("useAzureAD", "true", "useEntraID"),
        ("redisType", "cluster", "redisType"),
        ("redisType", "ring", "must be node or cluster"),
        ("queryIndexes", "[]", "queryIndexes"),
    ] {
        let error = config(&[(name, value)]).check(&log::captured().0).unwrap_err();
        assert!(error.message.contains(expected), "{}", error.message);
    }
    let (log, lines) = log::captured();
    config(&[("redisType", "node"), ("enableTLS", "false"), ("poolSize", "9")])
        .check(&log)
        .unwrap();
    assert!(
        lines.text().contains("poolSize has no effect"),
        "{}",
        lines.text()
    );
}

#[test]
fn passwords_are_not_printed() {
    let printed = format!("{:?}", config(&[("redisPassword", "hunter2")]));
    assert!(
        printed.contains("***") && !printed.contains("hunter2"),
        "{printed}"
    );
}
