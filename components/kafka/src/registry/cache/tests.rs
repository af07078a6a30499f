use super::{Cache, Lasts, MOST, REST, STALE};
use crate::failure::Failure;
use outrigger_component::error::Kind;
use std::cell::Cell;
use std::time::Duration;
use tokio::time::{advance, sleep};

const TTL: Duration = Duration::from_secs(60);

fn failure(kind: Kind) -> Failure {
    Failure::Registry {
        url: "http://r".to_owned(),
        kind,
        cause: "x".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn what_lasts_is_not_asked_for_again() {
    for (lasts, after, expected) in [
        (Lasts::Ever, TTL * 1000, 1),
        (Lasts::For(TTL), TTL / 2, 1),
        (Lasts::For(TTL), TTL, 2),
        (Lasts::For(Duration::ZERO), Duration::ZERO, 2),
    ] {
        let cache = Cache::default();
        assert_eq!(cache.get("k", lasts, async { Ok(1) }).await.unwrap(), 1);
        advance(after).await;
        let value = cache.get("k", lasts, async { Ok(2) }).await.unwrap();
        assert_eq!(value, expected, "{lasts:?} after {after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn all_who_ask_at_once_share_one_request() {
    let cache = Cache::default();
    let asked = Cell::new(0);
    let ask = |number: i32| {
        asked.set(asked.get() + 1);
        cache.get("k", Lasts::Ever, async move {
            sleep(TTL).await;
            Ok(number)
        })
    };
    let (one, two, three) = tokio::join!(ask(1), ask(2), ask(3));
    assert_eq!((one.unwrap(), two.unwrap(), three.unwrap()), (1, 1, 1));
    assert_eq!(asked.get(), 3);
    // Whoever asks first may go away: those who come later do not wait for ever.
    let cache = Cache::default();
    let first = cache.get("k", Lasts::Ever, async {
        sleep(TTL).await;
        Ok(1)
    });
    assert!(tokio::time::timeout(TTL / 2, first).await.is_err());
    let second = cache.get("k", Lasts::Ever, async { Ok(2) }).await.unwrap();
    assert_eq!(second, 1);
}

#[tokio::test(start_paused = true)]
async fn failures_rest_and_what_was_known_stays() {
    let cache: Cache<&str, i32> = Cache::default();
    let lasts = Lasts::For(TTL);
    let gone = || async { Err(failure(Kind::Unavailable)) };
    cache.get("k", lasts, gone()).await.unwrap_err();
    cache.get("k", lasts, async { Ok(1) }).await.unwrap_err();
    advance(REST).await;
    assert_eq!(cache.get("k", lasts, async { Ok(1) }).await.unwrap(), 1);
    advance(TTL).await;
    assert_eq!(
        cache.get("k", lasts, gone()).await.unwrap(),
        1,
        "the registry is away"
    );
    advance(STALE).await;
    assert_eq!(
        cache.get("k", lasts, async { Ok(2) }).await.unwrap(),
        2,
        "it is back"
    );
    advance(TTL).await;
    let missing = async { Err(failure(Kind::NotFound)) };
    cache
        .get("k", lasts, missing)
        .await
        .expect_err("the subject was deleted");
}

#[tokio::test]
async fn it_does_not_grow_beyond_its_bound() {
    let cache = Cache::default();
    for key in 0..2 * MOST {
        cache.get(key, Lasts::Ever, async { Ok(()) }).await.unwrap();
    }
    assert_eq!(cache.slots().len(), MOST);
}
