//! The names under `metadata`, group by group.

use outrigger_component::options::{NONE, Opt, REQUIRED, opt};

/// Of all components.
pub(crate) const CLIENT: &[Opt] = &[
    opt(
        "redisHost",
        REQUIRED,
        "`host:port`, or a host; for a cluster and for Sentinels, several with commas between",
    ),
    opt(
        "redisPort",
        "6379",
        "port of the hosts that are written without one, also of Sentinels",
    ),
    opt("redisUsername", NONE, "user of the server's access control list"),
    opt("redisPassword", NONE, "password"),
    opt("redisDB", "0", "number of the database; not for a cluster"),
    opt("redisType", "node", "`node` or `cluster`"),
    opt(
        "failover",
        "false",
        "`redisHost` names Sentinels, which say where the master is; a failover is followed",
    ),
    opt(
        "sentinelMasterName",
        NONE,
        "what the Sentinels call the master; required with `failover`",
    ),
    opt("sentinelUsername", NONE, "user of the Sentinels"),
    opt("sentinelPassword", NONE, "password of the Sentinels"),
    opt("enableTLS", "false", "TLS to all servers and Sentinels"),
    opt(
        "insecureSkipTLSVerify",
        "false",
        "takes any certificate: encrypted, but nobody knows to whom",
    ),
    opt(
        "caCert",
        "the machine's authorities",
        "certificates in PEM of the authorities that are trusted instead; only in Outrigger",
    ),
    opt(
        "clientCert",
        NONE,
        "certificate in PEM that is shown to servers; needs `clientKey`",
    ),
    opt("clientKey", NONE, "its key in PEM, not encrypted"),
    opt(
        "dialTimeout",
        "5s",
        "for a connection with TLS and login; bare numbers are milliseconds, negative ones without limit",
    ),
    opt(
        "readTimeout",
        "3s",
        "for an answer; bare numbers are milliseconds, negative ones without limit",
    ),
    opt(
        "writeTimeout",
        "`readTimeout`",
        "the longer of both holds for request and answer together",
    ),
    opt("poolSize", NONE, "no effect: one connection carries all requests"),
    opt("minIdleConns", NONE, "no effect"),
    opt("maxConnAge", NONE, "no effect"),
    opt("poolTimeout", NONE, "no effect"),
    opt("idleTimeout", NONE, "no effect"),
    opt("idleCheckFrequency", NONE, "no effect"),
    opt("useEntraID", "false", "refused: not available yet").or(&["useAzureAD"]),
    opt("useOIDC", "false", "refused: not available yet"),
];

const MAX_RETRIES: Opt = opt(
    "redisMaxRetries",
    "3",
    "repetitions of a request whose connection was lost; `-1` is none",
);
const MIN_INTERVAL: &str = "shortest pause between attempts; bare numbers are milliseconds, `-1` is none";
const MAX_INTERVAL: &str = "longest pause between attempts; bare numbers are milliseconds, `-1` is none";

/// Of pub/sub and bindings.
pub(crate) const RETRIES: &[Opt] = &[
    MAX_RETRIES,
    opt("redisMinRetryInterval", "8ms", MIN_INTERVAL),
    opt("redisMaxRetryInterval", "512ms", MAX_INTERVAL),
];

/// Of configuration.
pub(crate) const WIDE_RETRIES: &[Opt] = &[
    MAX_RETRIES,
    opt("redisMinRetryInterval", "8ms", MIN_INTERVAL),
    opt("redisMaxRetryInterval", "2s", MAX_INTERVAL),
];

/// Of state and lock, with older names.
pub(crate) const LONG_RETRIES: &[Opt] = &[
    MAX_RETRIES.or(&["maxRetries"]),
    opt("redisMinRetryInterval", "512ms", MIN_INTERVAL),
    opt("redisMaxRetryInterval", "512ms", MAX_INTERVAL),
    opt(
        "maxRetryBackoff",
        NONE,
        "older name of `redisMinRetryInterval`, in nanoseconds",
    ),
];

pub(crate) const STATE: &[Opt] = &[
    opt(
        "ttlInSeconds",
        "for ever",
        "lifetime of values that have none of their own; 0 and below is for ever",
    ),
    opt("queryIndexes", NONE, "no effect: queries are refused"),
];

pub(crate) const CONSUMER: &[Opt] = &[
    opt("concurrency", "10", "events the app holds at once"),
    opt("queueDepth", "100", "events read in one go"),
    opt(
        "processingTimeout",
        "60s",
        "an event pending that long is claimed by whoever looks next; 0 turns that off; bare numbers are milliseconds",
    ),
    opt(
        "redeliverInterval",
        "15s",
        "how often one looks; 0 turns that off; bare numbers are milliseconds",
    ),
    opt("maxLenApprox", "no limit", "about how many events a stream keeps"),
    opt(
        "streamTTL",
        "no limit",
        "how long a stream keeps events; not together with `maxLenApprox`",
    ),
];
