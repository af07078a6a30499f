use super::{KEPT, Resolver};
use crate::dns::pattern::Pattern;
use outrigger_component::resolver::{Endpoint, NameResolver as _, Target};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A DNS server that answers what it is told to, after ten milliseconds, and counts.
struct World {
    resolver: Resolver,
    asked: Arc<AtomicUsize>,
    answer: Arc<Mutex<Vec<&'static str>>>,
}

fn world(answer: &[&'static str]) -> World {
    let asked = Arc::new(AtomicUsize::new(0));
    let answer = Arc::new(Mutex::new(answer.to_vec()));
    let (count, answers) = (asked.clone(), answer.clone());
    let lookup = move |address: String| {
        count.fetch_add(1, Ordering::Relaxed);
        let found = answers.lock().unwrap().clone();
        Box::pin(async move {
            assert_eq!(address, "shop.example.com:7");
            tokio::time::sleep(Duration::from_millis(10)).await;
            if found.is_empty() {
                return Err(io::Error::other("no such host"));
            }
            Ok(found.iter().map(|text| text.parse().unwrap()).collect())
        }) as futures::future::BoxFuture<'static, _>
    };
    let pattern = Pattern::format("{appid}.example.com:7").unwrap();
    World {
        resolver: Resolver::new(pattern, 1, Arc::new(lookup)),
        asked,
        answer,
    }
}

fn shop() -> Target {
    Target {
        app_id: "shop".to_owned(),
        namespace: "default".to_owned(),
    }
}

impl World {
    async fn resolve(&self) -> Result<Vec<String>, String> {
        let found = self.resolver.resolve(&shop()).await;
        found
            .map(|found| found.into_iter().map(|Endpoint(address)| address).collect())
            .map_err(|error| error.to_string())
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn all_addresses_are_kept_for_a_while() {
    let world = world(&["10.0.0.2:7", "10.0.0.1:7", "10.0.0.2:7", "[::1]:7"]);
    let all = futures::future::join_all((0..50).map(|_| world.resolve())).await;
    for found in all {
        assert_eq!(found.unwrap(), ["10.0.0.1:7", "10.0.0.2:7", "[::1]:7"]);
    }
    assert_eq!(world.asked(), 1, "one lookup for all who wait");
    tokio::time::advance(KEPT - Duration::from_secs(1)).await;
    world.resolve().await.unwrap();
    assert_eq!(world.asked(), 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    *world.answer.lock().unwrap() = vec!["10.0.0.3:7"];
    // The one who asks waits, the others go on with what was known.
    let (asking, other) = tokio::join!(world.resolve(), world.resolve());
    assert_eq!(asking.unwrap(), ["10.0.0.3:7"]);
    assert_eq!(other.unwrap().len(), 3);
    assert_eq!(world.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dead_address_is_looked_up_again() {
    let world = world(&["10.0.0.1:7"]);
    world.resolve().await.unwrap();
    *world.answer.lock().unwrap() = vec!["10.0.0.2:7"];
    world
        .resolver
        .unreachable(&shop(), &Endpoint("10.0.0.1:7".to_owned()));
    assert_eq!(world.resolve().await.unwrap(), ["10.0.0.2:7"]);
    // Without an answer the last one stays.
    world.answer.lock().unwrap().clear();
    world
        .resolver
        .unreachable(&shop(), &Endpoint("10.0.0.2:7".to_owned()));
    assert_eq!(world.resolve().await.unwrap(), ["10.0.0.2:7"]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_name_is_an_error() {
    let world = world(&[]);
    assert_eq!(
        world.resolve().await,
        Err("failed to resolve address for 'shop.example.com:7': no such host".to_owned())
    );
    *world.answer.lock().unwrap() = vec!["10.0.0.1:7"];
    assert_eq!(world.resolve().await.unwrap(), ["10.0.0.1:7"]);
}
