use super::Secrets;
use crate::fakes::{Bench, document, load, policies, scope};
use outrigger_component::metadata::Metadata;

async fn secrets(bench: &Bench) -> Secrets {
    let mut settings = bench.settings();
    settings.secret_scopes = vec![
        scope("closed", "deny", &["a"], &[]),
        scope("open", "", &[], &["b"]),
    ];
    let documents = ["closed", "open", "free"]
        .map(|name| document(name, "secretstores.fake", &[]))
        .to_vec();
    let components = load(&settings, documents).await.unwrap();
    Secrets::new(components.live(), policies(0), bench.component_metrics())
}

#[tokio::test]
async fn scopes_decide() {
    let bench = Bench::new();
    let secrets = secrets(&bench).await;
    for (store, name, expect) in [
        ("closed", "a", Ok("a-value")),
        (
            "closed",
            "b",
            Err(r#"access denied by policy to get "b" from "closed""#),
        ),
        ("open", "a", Ok("a-value")),
        (
            "open",
            "b",
            Err(r#"access denied by policy to get "b" from "open""#),
        ),
        ("free", "b", Ok("b-value")),
        ("other", "b", Err("failed finding secret store with key other")),
        (
            "free",
            "broken",
            Err("failed getting secret with key broken from secret store free: store is down"),
        ),
    ] {
        let outcome = secrets.get(store, name, &Metadata::new()).await;
        let outcome = outcome
            .as_ref()
            .map(|secret| secret.0[name].as_str())
            .map_err(|error| error.message.as_str());
        assert_eq!(outcome, expect, "{store} {name}");
    }
    for (store, expect) in [("closed", "a"), ("open", "a, c"), ("free", "a, b, c")] {
        let all = secrets.bulk(store, &Metadata::new()).await.unwrap();
        let names: Vec<_> = all.into_keys().collect();
        assert_eq!(names.join(", "), expect, "{store}");
    }
    let broken: Metadata = [("from", "broken")].into_iter().collect();
    assert_eq!(
        secrets.bulk("free", &broken).await.unwrap_err().message,
        "failed getting secrets from secret store free: store is down"
    );
    let metrics = bench.registry.expose();
    for line in [
        r#"dapr_component_secret_count{app_id="shop",component="free",namespace="",operation="get",success="false"} 1"#,
        r#"dapr_component_secret_count{app_id="shop",component="closed",namespace="",operation="bulk_get",success="true"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
}

#[tokio::test]
async fn without_stores_nothing_is_configured() {
    let bench = Bench::new();
    let components = load(&bench.settings(), Vec::new()).await.unwrap();
    let secrets = Secrets::new(components.live(), policies(0), bench.component_metrics());
    let error = secrets.get("s", "k", &Metadata::new()).await.unwrap_err();
    assert_eq!(
        (error.code.tag, error.message.as_str()),
        (
            "ERR_SECRET_STORES_NOT_CONFIGURED",
            "secret store is not configured"
        )
    );
}
