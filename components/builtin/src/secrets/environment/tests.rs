use super::*;
use outrigger_component::setup::Setup;
use outrigger_testkit::log;
use outrigger_testkit::setup::setup;

#[tokio::test]
async fn variables_of_the_sidecar_are_hidden() {
    let (log, lines) = log::captured();
    let Setup {
        name,
        app_id,
        namespace,
        metadata,
        instance,
        ..
    } = setup(&[]);
    let setup = Setup {
        name,
        app_id,
        namespace,
        config: Config {
            prefix: String::new(),
        },
        metadata,
        log,
        instance,
    };
    let all = ["DAPR_API_TOKEN", "dapr_x", "APP_API_TOKEN", "DAPRX"];
    let environment = Environment {
        lookup: Arc::new(|_| Some("secret".to_owned())),
        all: Arc::new(move || {
            all.iter()
                .map(|name| ((*name).to_owned(), "secret".to_owned()))
                .collect()
        }),
    };
    let store = Variables::new(setup, environment);
    for (name, expected) in all.into_iter().zip(["", "", "", "secret"]) {
        assert_eq!(
            store.get(name, &Metadata::new()).await.unwrap(),
            single(name, expected.to_owned())
        );
    }
    let visible: Vec<String> = store.all(&Metadata::new()).await.unwrap().into_keys().collect();
    assert_eq!(visible, ["DAPRX"]);
    assert!(
        lines
            .text()
            .contains("Access to env var DAPR_API_TOKEN is forbidden"),
        "{}",
        lines.text()
    );
}
