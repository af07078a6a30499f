use super::{Config, Settings};
use crate::avro::Json;
use crate::consumer::assign::Strategy;
use crate::dial::{Login, Mechanism};
use crate::wire::compress::Compression;
use crate::wire::data::End;
use outrigger_component::error::Result;
use outrigger_component::metadata::{Metadata, decode};
use outrigger_testkit::log::captured;
use std::time::Duration;

fn check(metadata: &[(&str, &str)]) -> Result<Settings> {
    let metadata: Metadata = [("brokers", "b1,b2:93"), ("authType", "none")]
        .into_iter()
        .chain(metadata.iter().copied())
        .collect();
    decode::<Config>(&metadata)?.check("app", true, &captured().0)
}

#[test]
fn defaults_are_the_reference_s() {
    let settings = check(&[]).unwrap();
    assert_eq!(settings.brokers, ["b1:9092", "b2:93"]);
    assert_eq!(
        (settings.group.as_str(), settings.client_id.as_str()),
        ("app", "sarama")
    );
    assert_eq!(
        (settings.initial, settings.strategy),
        (End::Newest, Strategy::Range)
    );
    assert_eq!(
        (settings.acks, settings.retries, settings.max_message_bytes),
        (-1, 5, 1 << 20)
    );
    assert_eq!(
        (settings.buffer, settings.fetch_min, settings.fetch_default),
        (256, 1, 1 << 20)
    );
    assert_eq!(settings.retry_interval, Duration::from_millis(100));
    assert_eq!(settings.heartbeat_interval, Duration::from_secs(3));
    assert_eq!(settings.session_timeout, Duration::from_secs(10));
    assert_eq!(settings.refresh_interval, Duration::from_secs(480));
    assert_eq!(settings.dial_timeout, Duration::from_secs(30));
    assert_eq!(settings.compression, Compression::None);
    assert!(settings.retry_refused && settings.tls.is_none() && matches!(settings.login, Login::None));
}

#[test]
fn what_is_written_counts() {
    let settings = check(&[
        ("consumerID", "id"),
        ("consumergroup", "group"),
        ("clientId", "me"),
        ("initialOffset", "Oldest"),
        ("consumeRetryEnabled", "false"),
        ("consumeRetryInterval", "250"),
        ("sessionTimeout", "20s"),
        ("heartbeatInterval", "-1s"),
        ("compression", "lz4"),
        ("producerRequiredAcks", "local"),
        ("producerRetryMax", "0"),
        ("maxMessageBytes", "2048"),
        ("consumerGroupRebalanceStrategy", "Sticky"),
        ("version", "3.9.0"),
        ("excludeHeaderMetaRegex", "^x"),
    ])
    .unwrap();
    assert_eq!(
        (settings.group.as_str(), settings.client_id.as_str()),
        ("group", "me")
    );
    assert_eq!(
        (settings.initial, settings.strategy),
        (End::Oldest, Strategy::Sticky)
    );
    assert_eq!(
        (settings.acks, settings.retries, settings.max_message_bytes),
        (1, 0, 2048)
    );
    assert_eq!(settings.retry_interval, Duration::from_millis(250));
    assert_eq!(settings.session_timeout, Duration::from_secs(20));
    assert_eq!(settings.heartbeat_interval, Duration::from_secs(3));
    assert!(!settings.retry_refused && settings.exclude.is_some());
    assert_eq!(
        check(&[("consumerGroupRebalanceStrategy", "x")])
            .unwrap()
            .strategy,
        Strategy::Range
    );
}

#[test]
fn logins() {
    let password = [
        ("authType", "Password"),
        ("saslUsername", "u"),
        ("saslPassword", "p"),
    ];
    for (mechanism, expected) in [
        ("", Mechanism::Plain),
        ("PLAINTEXT", Mechanism::Plain),
        ("SHA-256", Mechanism::Sha256),
        ("SHA-512", Mechanism::Sha512),
    ] {
        let metadata = [
            &password[..],
            &[("saslMechanism", mechanism), ("disableTls", "true")],
        ]
        .concat();
        let settings = check(&metadata).unwrap();
        assert!(
            matches!(&settings.login, Login::Password { mechanism, .. } if *mechanism == expected),
            "{mechanism}"
        );
        assert!(settings.tls.is_none());
        assert!(
            !format!("{settings:?}").contains("\"p\""),
            "passwords are not printed"
        );
    }
    let old = [
        ("authType", ""),
        ("authRequired", "true"),
        ("saslUsername", "u"),
        ("saslPassword", "p"),
    ];
    let settings = check(&[&old[..], &[("skipVerify", "true")]].concat()).unwrap();
    assert!(matches!(settings.login, Login::Password { .. }) && settings.tls.is_some());
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    for (metadata, expected) in [
        (&[("brokers", "")][..], "missing 'brokers' attribute"),
        (&[("authType", "")], "'authType' attribute was missing or empty"),
        (
            &[("authType", "kerberos")],
            "invalid value for 'authType' attribute",
        ),
        (
            &[("authType", ""), ("authRequired", "x")],
            "invalid value for 'authRequired' attribute",
        ),
        (
            &[("authType", "password")],
            "missing SASL Username for authType 'password'",
        ),
        (
            &[("authType", "password"), ("saslUsername", "u")],
            "missing SASL Password for authType 'password'",
        ),
        (
            &[("authType", "oidc")],
            "missing OIDC Token Endpoint for authType 'oidc'",
        ),
        (
            &[
                ("authType", "oidc"),
                ("oidcTokenEndpoint", "http://x"),
                ("oidcClientID", "i"),
                ("oidcClientSecret", "s"),
                ("oidcExtensions", "{}"),
            ],
            "improper OIDC Extensions format",
        ),
        (
            &[("authType", "certificate")],
            "missing CA certificate property 'caCert'",
        ),
        (
            &[("authType", "mtls"), ("clientCert", "x")],
            "invalid client certificate",
        ),
        (
            &[
                ("authType", "mtls"),
                ("clientCert", "-----BEGIN CERTIFICATE-----"),
            ],
            "clientKey or clientCert is missing",
        ),
        (&[("caCert", "x")], "invalid ca certificate"),
        (
            &[
                ("authType", "oidc_private_key_jwt"),
                ("oidcTokenEndpoint", "http://x"),
                ("oidcClientID", "app"),
                ("oidcClientAssertionCert", "x"),
                ("oidcClientAssertionKey", "hunter2"),
            ],
            "oidcClientAssertionKey is not a private key in PEM form",
        ),
        (&[("authType", "awsiam")], "authType awsiam"),
        (
            &[("authType", "oidc_private_key_jwt")],
            "missing OIDC Token Endpoint for authType 'oidc_private_key_jwt'",
        ),
        (&[("schemaRegistryURL", "x:8081")], "schemaRegistryURL"),
        (&[("schemaRegistryURL", "http://u:p@x")], "schemaRegistryAPIKey"),
        (
            &[
                ("schemaRegistryURL", "http://x"),
                ("schemaLatestVersionCacheTTL", "soon"),
            ],
            "schemaLatestVersionCacheTTL",
        ),
        (&[("initialOffset", "middle")], "invalid initialOffset: middle"),
        (&[("compression", "brotli")], "invalid compression: brotli"),
        (&[("version", "2.0")], "invalid kafka version"),
        (&[("version", "new")], "invalid kafka version"),
        (
            &[("producerRequiredAcks", "two")],
            "invalid value for 'producerRequiredAcks': \"two\"",
        ),
        (
            &[("producerRetryMax", "-1")],
            "invalid value for 'producerRetryMax': -1",
        ),
        (&[("channelBufferSize", "x")], "channelBufferSize"),
        (&[("consumerFetchMin", "x")], "consumerFetchMin"),
        (&[("dialTimeout", "soon")], "dialTimeout"),
        (&[("excludeHeaderMetaRegex", "(")], "excludeHeaderMetaRegex"),
    ] {
        let error = check(metadata).expect_err(expected);
        assert!(error.message.contains(expected), "{}", error.message);
    }
}

#[test]
fn schema_registries() {
    assert!(
        check(&[("schemaRegistryAPIKey", "k")])
            .unwrap()
            .values
            .registry
            .is_none()
    );
    let settings = check(&[("schemaRegistryURL", "http://r:1/apis/v7/")])
        .unwrap()
        .values;
    let registry = settings.registry.unwrap();
    assert_eq!(
        (registry.url.as_str(), settings.json),
        ("http://r:1/apis/v7", Json::Plain)
    );
    assert!(registry.caching && registry.login.is_none());
    assert_eq!(registry.latest_lasts, Duration::from_secs(300));
    let settings = check(&[
        ("schemaRegistryURL", "https://r"),
        ("schemaRegistryAPIKey", "key"),
        ("schemaRegistryAPISecret", "s3cret"),
        ("schemaCachingEnabled", "false"),
        ("schemaLatestVersionCacheTTL", "7s"),
        ("useAvroJSON", "true"),
    ])
    .unwrap();
    assert!(!format!("{settings:?}").contains("s3cret"));
    let registry = settings.values.registry.unwrap();
    assert!(!registry.caching && settings.values.json == Json::Avro);
    assert_eq!(registry.latest_lasts, Duration::from_secs(7));
    assert_eq!(registry.login.unwrap().0, "key");
}
