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
        (&[("redisHost", "a:1,b:2")], Err("they need redisType cluster")),
        (&[("redisHost", "h:x")], Err("has no port but \"x\"")),
        (
            &[("redisHost", "h:1"), ("redisPort", "2")],
            Err("already contains port 1, but redisPort is set to 2"),
        ),
    ] {
        match (config(pairs).addresses(), expected) {
            (Ok(found), Ok((host, port))) => assert_eq!(found, [Address::new(host, port)]),
            (Err(error), Err(expected)) => assert!(error.message.contains(expected), "{}", error.message),
            (result, _) => panic!("{pairs:?}: {result:?}"),
        }
    }
}

#[test]
fn several_addresses() {
    for kind in [("redisType", "cluster"), ("failover", "true")] {
        let config = config(&[("redisHost", "a:1, b,[::1]:3,"), ("redisPort", "0"), kind]);
        let expected = [("a", 1), ("b", 6379), ("::1", 3)].map(|(host, port)| Address::new(host, port));
        assert_eq!(config.addresses().unwrap(), expected, "{kind:?}");
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
        ("useEntraID", "true", "useEntraID: Entra ID"),
        ("useAzureAD", "true", "useEntraID: Entra ID"),
        ("useOIDC", "true", "useOIDC: OIDC"),
        ("redisType", "ring", "must be node or cluster"),
        ("failover", "true", "sentinelMasterName is missing"),
    ] {
        let metadata = [("redisHost", "h"), (name, value)];
        let error = config(&metadata).check(&log::captured().0).unwrap_err();
        assert!(error.message.contains(expected), "{}", error.message);
    }
    let (log, lines) = log::captured();
    let metadata = [
        ("redisHost", "h"),
        ("redisType", "cluster"),
        ("redisDB", "1"),
        ("poolSize", "9"),
        ("queryIndexes", "[]"),
    ];
    config(&metadata).check(&log).unwrap();
    for name in ["poolSize", "queryIndexes", "redisDB"] {
        let said = lines.text();
        assert!(said.contains(&format!("{name} has no effect")), "{said}");
    }
}

#[test]
fn pauses() {
    let default = Duration::from_millis(512);
    for (pairs, expected) in [
        (&[][..], default),
        (&[("redisMinRetryInterval", "8")], Duration::from_millis(8)),
        (&[("redisMinRetryInterval", "-1")], Duration::ZERO),
        (&[("maxRetryBackoff", "1000000")], Duration::from_millis(1)),
    ] {
        assert_eq!(config(pairs).shortest_pause(default), expected, "{pairs:?}");
    }
}

/// Each name that is documented is read, and the other way round.
#[test]
fn options_are_what_is_read() {
    let mut documented: Vec<&str> = [
        options::CLIENT,
        options::LONG_RETRIES,
        options::STATE,
        options::CONSUMER,
    ]
    .concat()
    .iter()
    .flat_map(|option| [&[option.name], option.also].concat())
    .collect();
    // Of all brokers.
    documented.push("consumerID");
    documented.sort_unstable();
    let mut read = Vec::new();
    fields(&mut read);
    read.sort_unstable();
    assert_eq!(documented, read);
}

/// Asks the derived decoder for the names it looks for.
fn fields(into: &mut Vec<&'static str>) {
    struct Names<'a>(&'a mut Vec<&'static str>);
    impl<'de> Deserializer<'de> for Names<'_> {
        type Error = Fault;

        fn deserialize_any<V: de::Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
            Err(de::Error::custom("names only"))
        }

        fn deserialize_struct<V: de::Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Fault> {
            self.0.extend(fields);
            Err(de::Error::custom("names only"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    Config::deserialize(Names(into)).unwrap_err();
}

#[test]
fn passwords_are_not_printed() {
    let printed = format!(
        "{:?}",
        config(&[
            ("redisPassword", "hunter2"),
            ("sentinelPassword", "hunter2"),
            ("clientKey", "hunter2")
        ])
    );
    assert!(
        printed.contains("***") && !printed.contains("hunter2"),
        "{printed}"
    );
}
