use super::{Config, Names, location};
use crate::database::Journal;
use outrigger_component::metadata::{self, Metadata};
use outrigger_testkit::setup::setup;
use std::time::Duration;

fn decoded<C: serde::de::DeserializeOwned>(pairs: &[(&str, &str)]) -> C {
    metadata::decode(&Metadata::from_iter(pairs.iter().copied())).unwrap()
}

#[test]
fn names_defaults_and_aliases() {
    let config: Config = decoded(&[("connectionString", "a.db")]);
    assert_eq!(
        (
            config.timeout,
            config.busy_timeout,
            config.disable_wal,
            &*config.table_name,
            &*config.metadata_table_name,
            config.cleanup_interval,
            config.query_api,
        ),
        (
            Duration::from_secs(20),
            Duration::from_secs(2),
            false,
            "state",
            "metadata",
            Duration::ZERO,
            false
        )
    );
    config.check().unwrap();
    let config: Config = decoded(&[
        ("URL", "a.db"),
        ("timeoutInSeconds", "7"),
        ("busyTimeout", "100ms"),
        ("disableWal", "true"),
        ("cleanupIntervalInSeconds", "60"),
    ]);
    assert_eq!(
        (
            &*config.connection_string,
            config.timeout,
            config.busy_timeout,
            config.disable_wal,
            config.cleanup_interval
        ),
        (
            "a.db",
            Duration::from_secs(7),
            Duration::from_millis(100),
            true,
            Duration::from_secs(60)
        )
    );
}

#[test]
fn what_is_wrong_is_said() {
    for (pairs, expected) in [
        (&[][..], "missing connection string"),
        (
            &[("connectionString", "a.db"), ("timeout", "10ms")],
            "invalid value for 'timeout': must be greater than 1s",
        ),
        (
            &[("connectionString", "a.db"), ("tableName", "a;b")],
            "invalid identifier: a;b",
        ),
        (
            &[("connectionString", "a.db"), ("metadataTableName", "")],
            "invalid identifier: ",
        ),
    ] {
        let config: Config = decoded(pairs);
        assert_eq!(config.check().unwrap_err().message, expected);
    }
    for (pairs, expected) in [
        (
            &[("connectionString", "a.db"), ("tableName", "a b")][..],
            "invalid identifier for table name: a b",
        ),
        (
            &[("connectionString", "a.db"), ("updateInterval", "2500ms")],
            "update interval must not contain fractions of seconds",
        ),
        (
            &[("connectionString", "a.db"), ("updateInterval", "1s")],
            "update interval must be at least 1s greater than timeout",
        ),
    ] {
        let config: Names = decoded(pairs);
        assert_eq!(config.check().unwrap_err().message, expected);
    }
}

#[test]
fn connection_strings() {
    let log = setup(&[]).log;
    let seen = |text: &str, disable_wal| {
        location(text, Duration::ZERO, disable_wal, &log)
            .map(|it| (it.uri, it.memory, it.journal, it.pragmas.join("; ")))
            .map_err(|error| error.message)
    };
    for (text, disable_wal, uri, memory, journal, pragmas) in [
        ("data.db", false, "file:data.db", false, Journal::Wal, ""),
        ("data.db", true, "file:data.db", false, Journal::Delete, ""),
        (
            "file:data.db?mode=ro&_txlock=deferred",
            false,
            "file:data.db?mode=ro",
            false,
            Journal::Delete,
            "",
        ),
        (
            "FILE:data.db?cache=shared&_pragma=synchronous(NORMAL)&_pragma=cache_size%28-2000%29&x=1",
            false,
            "FILE:data.db?cache=shared",
            false,
            Journal::Wal,
            "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -2000",
        ),
        (":memory:", false, "file::memory:", true, Journal::Memory, ""),
        (
            "file::memory:?cache=shared",
            true,
            "file::memory:",
            true,
            Journal::Memory,
            "",
        ),
    ] {
        let expected = (uri.to_owned(), memory, journal, pragmas.to_owned());
        assert_eq!(seen(text, disable_wal), Ok(expected), "{text}");
    }
    for (text, expected) in [
        (
            "a?_pragma=busy_timeout(1)",
            "found forbidden option '_pragma=busy_timeout' in the connection string: use the metadata busyTimeout",
        ),
        (
            "a?_pragma=x(1);DROP TABLE state",
            "_pragma=x(1);DROP TABLE state of the connection string is not of the form name(value)",
        ),
        (
            "a?_pragma=%zz",
            "_pragma=%zz of the connection string cannot be decoded",
        ),
    ] {
        assert_eq!(seen(text, false), Err(expected.to_owned()), "{text}");
    }
}
