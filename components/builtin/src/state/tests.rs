use super::table::{Pattern, Step, Table};
use super::*;
use outrigger_component::error::{Error, Kind};
use outrigger_testkit::setup::setup;

const START: Duration = Duration::from_secs(0);

fn write(table: &mut Table, key: &str, ttl: &str, now: Instant) {
    let set = Set {
        key: key.to_owned(),
        value: "v".into(),
        metadata: Metadata::from_iter([("ttlInSeconds", ttl)]),
        ..Set::default()
    };
    table
        .apply(vec![Step::new(Write::Set(set)).unwrap()], now)
        .unwrap();
}

#[test]
fn overwriting_does_not_grow_the_index() {
    let mut table = Table::default();
    let now = Instant::now();
    for (ttl, sizes) in [
        ("10", (1, 1)),
        ("20", (1, 1)),
        ("5", (1, 1)),
        ("", (1, 0)),
        ("7", (1, 1)),
        ("-1", (1, 0)),
    ] {
        write(&mut table, "key", ttl, now);
        assert_eq!(table.sizes(), sizes, "after ttl {ttl:?}");
    }
}

#[test]
fn burying_takes_what_has_expired_and_nothing_else() {
    let mut table = Table::default();
    let start = Instant::now();
    for (key, ttl) in [("a", "1"), ("b", "2"), ("c", "2"), ("d", "9"), ("e", "")] {
        write(&mut table, key, ttl, start);
    }
    for (after, most, buried, sizes) in [
        (START, 9, 0, (5, 4)),
        (Duration::from_secs(2), 2, 2, (3, 2)),
        (Duration::from_secs(2), 2, 1, (2, 1)),
        (Duration::from_secs(8), 2, 0, (2, 1)),
        (Duration::from_secs(9), 2, 1, (1, 0)),
    ] {
        assert_eq!(table.bury(start + after, most), buried, "after {after:?}");
        assert_eq!(table.sizes(), sizes, "after {after:?}");
    }
}

#[test]
fn patterns() {
    for (pattern, text, matches) in [
        ("", "", true),
        ("", "a", false),
        ("%", "", true),
        ("%", "anything", true),
        ("a%", "a", true),
        ("a%b%c", "axxbyyc", true),
        ("a%b%c", "axxbyy", false),
        ("a%b", "abab", true),
        ("%ab", "aab", true),
        ("_", "\u{e9}", true),
        ("_", "", false),
        ("__", "a", false),
        ("\\%", "%", true),
        ("\\%", "x", false),
        ("\\_x", "_x", true),
        ("a\\", "a\\", true),
        ("%%", "ab", true),
        ("%a_", "bab", true),
    ] {
        assert_eq!(
            Pattern::new(pattern).matches(text),
            matches,
            "{text:?} like {pattern:?}"
        );
    }
}

#[tokio::test]
async fn refusals_say_what_is_stored() {
    let store = Store::build(bare()).await.unwrap();
    store
        .set(Set {
            key: "k".to_owned(),
            ..Set::default()
        })
        .await
        .unwrap();
    for (key, etag, expected) in [
        (
            "k",
            Some("7"),
            "state etag not match for key=k: current=1, expect=7",
        ),
        ("absent", Some("7"), "state not exist or expired for key=absent"),
        ("k", None, "item already exists and no etag was passed"),
    ] {
        let set = Set {
            key: key.to_owned(),
            etag: etag.map(str::to_owned),
            concurrency: outrigger_component::state::Concurrency::FirstWrite,
            ..Set::default()
        };
        let Error { kind, message, .. } = store.set(set).await.unwrap_err();
        assert_eq!((kind, message.as_str()), (Kind::EtagMismatch, expected));
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_for_is_swept() {
    let store = Store::build(bare()).await.unwrap();
    for number in 0..2500 {
        write(&mut store.table(), &number.to_string(), "1", Instant::now());
    }
    tokio::time::sleep(SWEEP_EVERY + Duration::from_secs(1)).await;
    assert_eq!(store.table().sizes(), (0, 0));
}

#[tokio::test]
async fn expiry_is_told_in_seconds_and_utc() {
    let store = Store::build(bare()).await.unwrap();
    write(&mut store.table(), "k", "100", Instant::now());
    let item = store
        .get(&Get {
            key: "k".to_owned(),
            ..Get::default()
        })
        .await
        .unwrap()
        .unwrap();
    let time = item.metadata.get("ttlExpireTime").unwrap();
    assert_eq!(
        (time.len(), time.as_bytes()[10], time.as_bytes()[19]),
        (20, b'T', b'Z'),
        "{time}"
    );
}

fn bare() -> Setup<Config> {
    let outrigger_component::setup::Setup {
        name,
        app_id,
        namespace,
        metadata,
        log,
        instance,
        ..
    } = setup(&[]);
    Setup {
        name,
        app_id,
        namespace,
        config: Config::default(),
        metadata,
        log,
        instance,
    }
}
