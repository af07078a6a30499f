use super::{Configuration, Parts};
use crate::components::snapshot::{ConfigurationStore, Live, Loaded, Snapshot};
use crate::error::ApiError;
use crate::fakes::{Bench, policies};
use futures::{FutureExt as _, StreamExt as _};
use http::{Request, Response};
use outrigger_channel::app::{AppChannel, Outcome, Subscription, TopicEvent};
use outrigger_channel::body::Body;
use outrigger_channel::call::{Call, Reply};
use outrigger_channel::error::Error;
use outrigger_component::configuration::Get;
use outrigger_daemon::drain;
use outrigger_daemon::tasks::Tasks;
use outrigger_testkit::conformance::configuration as suite;
use outrigger_testkit::stores::Settings;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// An app that passes on what it is told. Keys named `refused` are answered with 500.
struct App(mpsc::Sender<(String, String)>);

#[async_trait::async_trait]
impl AppChannel for App {
    async fn subscriptions(&self) -> Result<Vec<Subscription>, Error> {
        Ok(Vec::new())
    }

    async fn invoke(&self, call: Call) -> Result<Reply, Error> {
        assert_eq!(call.content_type(), "application/json");
        let refused = call.method.ends_with("refused");
        let body = call.body.collect(1 << 20).await.unwrap();
        let told = format!("{} {}", call.verb, call.method);
        self.0
            .send((told, String::from_utf8(body.to_vec()).unwrap()))
            .await
            .unwrap();
        Ok(Reply::http(if refused { 500 } else { 200 }, Body::Empty))
    }

    async fn deliver(&self, _event: TopicEvent) -> Result<Outcome, Error> {
        Err(Error::Unimplemented("deliver"))
    }

    async fn proxy(&self, _request: Request<Body>) -> Result<Response<Body>, Error> {
        Err(Error::Unimplemented("proxy"))
    }

    async fn healthy(&self) -> Result<(), Error> {
        Ok(())
    }
}

struct Stage {
    bench: Bench,
    settings: Settings,
    configuration: Configuration,
    told: mpsc::Receiver<(String, String)>,
    _tasks: Tasks,
}

fn stage(app: bool, retries: u32) -> Stage {
    let bench = Bench::new();
    let settings = Settings::default();
    let mut snapshot = Snapshot::default();
    let store = ConfigurationStore {
        name: "c".to_owned(),
        store: Arc::new(settings.clone()),
    };
    snapshot.insert(
        "configuration.memory",
        "v1",
        Loaded::Configuration(Arc::new(store)),
    );
    let tasks = Tasks::new(&bench.log, drain::channel().0);
    let (sender, told) = mpsc::channel(16);
    let configuration = Configuration::new(Parts {
        components: Live::new(snapshot),
        app: app.then(|| Arc::new(App(sender)) as Arc<dyn AppChannel>),
        policies: policies(retries),
        metrics: bench.component_metrics(),
        log: bench.log.clone(),
        tasks: tasks.spawner(),
    });
    Stage {
        bench,
        settings,
        configuration,
        told,
        _tasks: tasks,
    }
}

fn keys(keys: &[&str]) -> Get {
    Get {
        keys: keys.iter().map(|&key| key.to_owned()).collect(),
        ..Get::default()
    }
}

fn seen(error: &ApiError) -> (&str, &str) {
    (error.code.tag, &error.message)
}

#[tokio::test]
async fn the_app_is_told() {
    let mut stage = stage(true, 0);
    let configuration = &stage.configuration;
    let id = configuration.subscribe("c", &keys(&["a", "b"])).await.unwrap();
    stage.settings.set("other", "1");
    stage.settings.set("a", "1");
    let (call, body) = stage.told.recv().await.unwrap();
    assert_eq!(call, "POST /configuration/c/a");
    assert_eq!(
        body,
        format!(r#"{{"id":"{id}","items":{{"a":{{"value":"1","version":"2"}}}}}}"#)
    );
    stage.settings.remove("a");
    let (_, body) = stage.told.recv().await.unwrap();
    assert_eq!(body, format!(r#"{{"id":"{id}","items":{{"a":{{}}}}}}"#));

    configuration.unsubscribe("c", &id).unwrap();
    stage.settings.set("b", "1");
    let error = configuration.unsubscribe("c", &id).unwrap_err();
    assert_eq!(
        seen(&error),
        (
            "ERR_CONFIGURATION_UNSUBSCRIBE",
            &*format!("failed to unsubscribe to configuration request {id}: subscription does not exist")
        )
    );
    let silent = tokio::time::timeout(Duration::from_millis(50), stage.told.recv()).await;
    assert!(silent.is_err(), "{silent:?}");
}

#[tokio::test]
async fn an_app_that_refuses_is_asked_again_as_the_policy_says() {
    let mut stage = stage(true, 2);
    stage
        .configuration
        .subscribe("c", &keys(&["refused"]))
        .await
        .unwrap();
    stage.settings.set("refused", "1");
    for _ in 0..3 {
        assert_eq!(
            stage.told.recv().await.unwrap().0,
            "POST /configuration/c/refused"
        );
    }
    let failed = "error sending configuration item to the app: error sending configuration item to application, status 500";
    while !stage.bench.logged().contains(failed) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // And the next change is told as if nothing had been.
    stage.settings.set("refused", "2");
    assert!(stage.told.recv().await.unwrap().1.contains(r#""value":"2""#));
}

#[tokio::test]
async fn streams_end_when_they_are_unsubscribed() {
    let stage = stage(false, 0);
    let configuration = &stage.configuration;
    let mut watch = configuration.watch("c", &keys(&[])).await.unwrap();
    stage.settings.set("a", "1");
    assert_eq!(watch.next().await.unwrap()["a"].value, "1");
    let id = watch.id().to_owned();
    assert!(
        configuration.unsubscribe_id("another").is_err(),
        "only the one that is named"
    );
    configuration.unsubscribe_id(&id).unwrap();
    assert!(watch.next().await.is_none());
    let dropped = configuration.watch("c", &keys(&[])).await.unwrap();
    let id = dropped.id().to_owned();
    drop(dropped);
    assert!(configuration.unsubscribe_id(&id).is_err());
}

#[tokio::test]
async fn refusals() {
    let stage = stage(false, 0);
    let configuration = &stage.configuration;
    for (error, expected) in [
        (
            configuration.get("x", &keys(&[])).await.unwrap_err(),
            (
                "ERR_CONFIGURATION_STORE_NOT_FOUND",
                "configuration store x not found",
            ),
        ),
        (
            configuration.subscribe("c", &keys(&[])).await.unwrap_err(),
            (
                "ERR_APP_CHANNEL_NIL",
                "app channel is not initialized. cannot subscribe to configuration updates",
            ),
        ),
        (
            configuration.unsubscribe("x", "1").unwrap_err(),
            (
                "ERR_CONFIGURATION_STORE_NOT_FOUND",
                "configuration store x not found",
            ),
        ),
    ] {
        assert_eq!(seen(&error), expected);
    }
    let mut held = Vec::new();
    let error = loop {
        match configuration.watch("c", &keys(&["k"])).await {
            Ok(watch) => held.push(watch),
            Err(error) => break error,
        }
    };
    assert_eq!(held.len(), 1000);
    assert_eq!(
        error.message,
        "failed to subscribe [k] from Configuration store c: there are 1000 subscriptions already: unsubscribe those \
         that are not needed"
    );
}

#[tokio::test]
async fn the_stand_in_passes_the_suite() {
    let settings = Settings::default();
    let write = |key: &'static str, value: Option<&'static str>| {
        let settings = settings.clone();
        async move {
            match value {
                Some(value) => settings.set(key, value),
                None => settings.remove(key),
            }
        }
        .boxed()
    };
    suite::run(&settings, &write).await;
}
