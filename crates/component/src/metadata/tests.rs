use super::{Metadata, decode};
use serde::Deserialize;
use std::time::Duration;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Config {
    redis_host: String,
    #[serde(default)]
    redis_db: Option<u8>,
    #[serde(default)]
    enable_tls: bool,
    #[serde(default, deserialize_with = "super::duration")]
    dial_timeout: Duration,
}

fn metadata(pairs: &[(&str, &str)]) -> Metadata {
    pairs.iter().copied().collect()
}

#[test]
fn names_match_in_any_case_and_values_are_converted() {
    let decoded: Config = decode(&metadata(&[
        ("RedisHOST", "h:1"),
        ("redisdb", "3"),
        ("enableTLS", "yes"),
        ("dialTimeout", "1m5s"),
        ("other", "x"),
    ]))
    .expect("decodes");
    let expected = Config {
        redis_host: "h:1".into(),
        redis_db: Some(3),
        enable_tls: true,
        dial_timeout: Duration::from_secs(65),
    };
    assert_eq!(decoded, expected);
}

#[test]
fn faults_name_the_metadata() {
    for (pairs, expected) in [
        (&[][..], "metadata \"redisHost\" is missing"),
        (
            &[("redisHost", "h"), ("redisDB", "many")][..],
            "metadata \"redisDb\" must be a number",
        ),
        (&[("redisHost", "h"), ("dialTimeout", "soon")][..], "soon"),
    ] {
        let error = decode::<Config>(&metadata(pairs)).expect_err("must fail");
        assert!(
            error.message.contains(expected),
            "{} should contain {expected}",
            error.message
        );
    }
}

#[test]
fn debug_hides_values() {
    assert_eq!(
        format!("{:?}", metadata(&[("redisPassword", "hunter2")])),
        r#"{"redisPassword": "***"}"#
    );
}

#[test]
fn names_are_those_of_the_fields() {
    assert_eq!(
        super::names::<Config>(),
        ["redisHost", "redisDb", "enableTls", "dialTimeout"]
    );
    assert!(super::names::<Metadata>().is_empty());
    assert!(super::names::<()>().is_empty());
}
