//! Over real sockets, on whatever interface this machine has.

use super::*;
use outrigger_component::registry::Registry;
use outrigger_testkit::setup::setup;

async fn start(app_id: &str, port: u16) -> Arc<dyn NameResolver> {
    let mut registry = Registry::default();
    registry.resolver("mdns", Resolver::start);
    let mut setup = setup(&[]);
    setup.instance.app_id = app_id.to_owned();
    setup.instance.internal_port = port;
    registry.resolvers().build("mdns", "v1", setup).await.unwrap()
}

fn target(app_id: &str) -> Target {
    Target {
        app_id: app_id.to_owned(),
        namespace: "default".to_owned(),
    }
}

fn endpoints(ports: &[u16]) -> Vec<Endpoint> {
    ports
        .iter()
        .map(|port| Endpoint(format!("127.0.0.1:{port}")))
        .collect()
}

/// Names that no other test run on this network uses.
fn unique(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

#[tokio::test]
async fn sidecars_find_each_other_and_notice_departure() {
    let (one, two) = (unique("one"), unique("two"));
    let first = start(&one, 41001).await;
    let second = start(&two, 41002).await;
    let began = Instant::now();
    assert_eq!(first.resolve(&target(&two)).await.unwrap(), endpoints(&[41002]));
    assert_eq!(second.resolve(&target(&one)).await.unwrap(), endpoints(&[41001]));
    assert_eq!(
        first.resolve(&target(&one)).await.unwrap(),
        endpoints(&[41001]),
        "its own"
    );
    assert!(
        began.elapsed() < PATIENCE,
        "the first answer ends the wait: {:?}",
        began.elapsed()
    );
    second.close().await;
    let gone = async {
        while !first.resolve(&target(&two)).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone)
        .await
        .expect("the farewell is heard");
}

#[tokio::test]
async fn a_second_instance_is_learnt_without_asking() {
    let app = unique("pair");
    let _first = start(&app, 41011).await;
    let asker = start(&unique("asker"), 41013).await;
    assert_eq!(asker.resolve(&target(&app)).await.unwrap(), endpoints(&[41011]));
    let _second = start(&app, 41012).await;
    let both = async {
        loop {
            let mut found = asker.resolve(&target(&app)).await.unwrap();
            found.sort();
            if found == endpoints(&[41011, 41012]) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), both)
        .await
        .expect("the announcement is heard");
    asker.unreachable(&target(&app), &endpoints(&[41011])[0]);
    tokio::time::timeout(Duration::from_secs(5), async {
        while asker.resolve(&target(&app)).await.unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("an address that answers is back");
}

#[tokio::test]
async fn waiting_for_nobody_is_bounded() {
    let asker = start(&unique("lonely"), 41021).await;
    let began = Instant::now();
    assert_eq!(asker.resolve(&target(&unique("nobody"))).await.unwrap(), []);
    let waited = began.elapsed();
    assert!(waited >= PATIENCE && waited < PATIENCE * 2, "{waited:?}");
    assert_eq!(asker.resolve(&target("no..name")).await.unwrap(), []);
}

#[tokio::test]
async fn faults_name_what_is_missing() {
    let mut registry = Registry::default();
    registry.resolver("mdns", Resolver::start);
    for (app_id, host, port, expected) in [
        ("", "127.0.0.1", 1, "name is missing"),
        ("app", "127.0.0.1", 0, "port is missing or invalid"),
        ("app", "", 1, "host address \"\" is not an IP address"),
        (
            "app",
            "localhost",
            1,
            "host address \"localhost\" is not an IP address",
        ),
        ("a..b", "127.0.0.1", 1, "app id \"a..b\" cannot be a domain name"),
    ] {
        let mut setup = setup(&[]);
        setup.instance.app_id = app_id.to_owned();
        setup.instance.host = host.to_owned();
        setup.instance.internal_port = port;
        let error = registry
            .resolvers()
            .build("mdns", "v1", setup)
            .await
            .err()
            .expect("must fail");
        assert!(error.message.contains(expected), "{}", error.message);
    }
}
