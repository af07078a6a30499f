//! The names under `metadata`, for warnings and for the documentation.

use outrigger_component::options::{NONE, Opt, REQUIRED, opt};

pub(crate) const CLIENT: &[Opt] = &[
    opt(
        "brokers",
        REQUIRED,
        "`host:port` of some brokers, with commas between; port 9092 need not be written",
    ),
    opt("clientID", "sarama", "name in logs and quotas of the brokers").or(&["clientId"]),
    opt(
        "version",
        "2.0.0",
        "accepted and checked; requests are those that every broker since Kafka 2.1 knows",
    ),
    opt("dialTimeout", "30s", "for TCP, TLS and login together"),
    opt("readTimeout", "30s", "for an answer"),
    opt("writeTimeout", "30s", "for handing a request over to the broker"),
    opt(
        "metadataTimeout",
        "0",
        "for finding out who leads what; 0 is as long as the other times allow",
    ),
    opt(
        "clientConnectionTopicMetadataRefreshInterval",
        "8m",
        "how often it is asked who leads what",
    ),
    opt(
        "clientConnectionKeepAliveInterval",
        "0",
        "between probes of an idle TCP connection; 0 is as the system does",
    ),
    opt(
        "escapeHeaders",
        "false",
        "escapes values of headers, and keys, as in URLs when they become metadata",
    ),
    opt(
        "excludeHeaderMetaRegex",
        NONE,
        "metadata whose name matches does not become a header, nor the other way round",
    ),
    opt(
        "schemaRegistryURL",
        NONE,
        "of a schema registry that speaks Confluent's protocol, for values with `valueSchemaType`",
    ),
    opt("schemaRegistryAPIKey", NONE, "user towards the schema registry"),
    opt(
        "schemaRegistryAPISecret",
        NONE,
        "password towards the schema registry",
    ),
    opt(
        "schemaCachingEnabled",
        "true",
        "whether schemas are remembered; without, each message asks the registry",
    ),
    opt(
        "schemaLatestVersionCacheTTL",
        "5m",
        "how long the newest schema of a topic counts as the newest",
    ),
    opt(
        "useAvroJSON",
        "false",
        "JSON of Avro values names the branches of unions: `{\"string\": \"x\"}`",
    ),
];

pub(crate) const LOGIN: &[Opt] = &[
    opt(
        "authType",
        REQUIRED,
        "`none` (no TLS either), `password`, `mtls`, `certificate` (TLS only), `oidc`, `oidc_private_key_jwt`; `awsiam` is refused",
    ),
    opt(
        "authRequired",
        NONE,
        "deprecated: `true` is `password` with a saslPassword and `mtls` without, `false` is `none`",
    ),
    opt("saslUsername", NONE, "for `password`"),
    opt("saslPassword", NONE, "for `password`"),
    opt(
        "saslMechanism",
        "PLAINTEXT",
        "for `password`: `PLAINTEXT`, `SHA-256` or `SHA-512` (SCRAM)",
    ),
    opt("oidcTokenEndpoint", NONE, "for `oidc…`: where tokens come from"),
    opt("oidcClientID", NONE, "for `oidc…`"),
    opt("oidcClientSecret", NONE, "for `oidc`"),
    opt("oidcScopes", "openid", "for `oidc…`, with commas between"),
    opt(
        "oidcExtensions",
        NONE,
        "for `oidc…`: SASL extensions as a JSON object of texts",
    ),
    opt(
        "oidcClientAssertionCert",
        NONE,
        "for `oidc_private_key_jwt`: needed as in the reference, and not looked at",
    ),
    opt(
        "oidcClientAssertionKey",
        NONE,
        "for `oidc_private_key_jwt`: PEM of the RSA key that signs who we are",
    ),
    opt(
        "oidcResource",
        NONE,
        "for `oidc_private_key_jwt`: what the token is for",
    ),
    opt(
        "oidcAudience",
        "`oidcTokenEndpoint`",
        "for `oidc_private_key_jwt`: whom the assertion is for",
    ),
    opt(
        "oidcKid",
        NONE,
        "for `oidc_private_key_jwt`: which of our keys it is",
    ),
    opt(
        "disableTls",
        "false",
        "speaks without TLS although `authType` is not `none`",
    ),
    opt("skipVerify", "false", "accepts any certificate of a broker"),
    opt(
        "caCert",
        NONE,
        "PEM of the authorities that are trusted instead of the system's",
    ),
    opt("clientCert", NONE, "for `mtls`: PEM"),
    opt("clientKey", NONE, "for `mtls`: PEM"),
];

pub(crate) const PRODUCER: &[Opt] = &[
    opt(
        "maxMessageBytes",
        "1048576",
        "largest message, and largest batch before compression",
    ),
    opt(
        "compression",
        "none",
        "of batches: `none`, `gzip`, `snappy`, `lz4` or `zstd`",
    ),
    opt(
        "producerRequiredAcks",
        "all",
        "who confirms: `all` replicas in sync (each message once and in order), `local` (the leader) or `none`",
    ),
    opt(
        "producerRetryMax",
        "5",
        "attempts after the first, with growing pauses",
    ),
];

pub(crate) const CONSUMER: &[Opt] = &[
    opt(
        "consumerGroup",
        "`consumerID`",
        "consumer group; without either, the app id",
    ),
    opt(
        "initialOffset",
        "newest",
        "where a new group begins: `newest` or `oldest`",
    ),
    opt(
        "consumerGroupRebalanceStrategy",
        "range",
        "`range`, `roundrobin`, `sticky`, or `cooperative-sticky` (ours)",
    ),
    opt(
        "sessionTimeout",
        "10s",
        "after which the group gives up on a silent member",
    ),
    opt("heartbeatInterval", "3s", "between signs of life"),
    opt(
        "consumeRetryEnabled",
        "`true` for pub/sub, `false` for bindings",
        "whether a refused message is tried again; its partition waits for it, others do not",
    ),
    opt(
        "consumeRetryInterval",
        "100ms",
        "before a refused message is tried again; bare numbers are milliseconds",
    ),
    opt(
        "consumerFetchMin",
        "1",
        "bytes for which a broker waits, up to half a second",
    ),
    opt(
        "consumerFetchDefault",
        "1048576",
        "bytes of a partition that are fetched at once",
    ),
    opt(
        "channelBufferSize",
        "256",
        "messages of a partition that wait to be handed out",
    ),
];

pub(crate) const BINDING: &[Opt] = &[
    opt("topics", NONE, "topics to read, with commas between"),
    opt("publishTopic", NONE, "topic to publish to"),
    opt(
        "consumerID",
        NONE,
        "consumer group, if there is no `consumerGroup`",
    ),
];
