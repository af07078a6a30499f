use super::Sources;
use crate::components::secrets::Environment;
use crate::fakes::{Bench, document, load};
use outrigger_resources::http_endpoint::HttpEndpoint;
use serde_json::json;
use std::sync::Arc;

async fn resolve(spec: serde_json::Value, store: &str) -> (Result<String, String>, String) {
    let bench = Bench::new();
    let components = load(
        &bench.settings(),
        vec![document("vault", "secretstores.fake", &[])],
    )
    .await
    .unwrap();
    let document: HttpEndpoint = serde_json::from_value(json!({
        "metadata": {"name": "e"},
        "spec": spec,
        "auth": {"secretStore": store},
    }))
    .unwrap();
    let snapshot = components.live();
    let environment = Environment {
        lookup: Arc::new(|name| (name == "COLOUR").then(|| "blue".to_owned())),
        allowed: String::new(),
    };
    let sources = Sources {
        components: &snapshot.now(),
        environment: &environment,
        default_store: "",
        log: &bench.log,
    };
    let (name, config) = sources.resolve(&[document]).await.remove(0);
    assert_eq!(name, "e");
    let shown = config.map(|config| {
        let headers: Vec<_> = config
            .headers
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        format!(
            "{} {}{}",
            config.base_url,
            headers.join(","),
            if config.tls.is_some() { " tls" } else { "" }
        )
    });
    (shown, bench.logged())
}

#[tokio::test]
async fn values_come_from_where_the_document_says() {
    for (spec, store, expected) in [
        (
            json!({"baseUrl": "http://h", "headers": [{"name": "a", "value": "1"}, {"name": "b", "envRef": "COLOUR"}]}),
            "",
            "http://h a=1,b=blue",
        ),
        (
            json!({"baseUrl": "https://h", "headers": [{"name": "a", "secretKeyRef": {"name": "key"}}]}),
            "vault",
            "https://h a=key-value",
        ),
        (
            json!({"baseUrl": "https://h", "clientTLS": {}}),
            "",
            "https://h  tls",
        ),
    ] {
        let (config, _) = resolve(spec, store).await;
        assert_eq!(config.as_deref(), Ok(expected));
    }
}

#[tokio::test]
async fn what_cannot_be_used_says_why() {
    let secret = json!([{"name": "a", "secretKeyRef": {"name": "key"}}]);
    for (spec, store, expected) in [
        (
            json!({"baseUrl": "http://h", "headers": secret}),
            "absent",
            "it refers to secrets, but the secret store \"absent\" is not loaded",
        ),
        (
            json!({"baseUrl": "http://h", "headers": [{"name": "a", "secretKeyRef": {"name": "broken"}}]}),
            "vault",
            "a is in the secret \"broken\", which could not be read",
        ),
        (
            json!({"baseUrl": "http://h", "clientTLS": {"rootCA": {"value": "none"}}}),
            "",
            "clientTLS.rootCA holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)",
        ),
        (
            json!({"baseUrl": "http://h", "clientTLS": {"privateKey": {"secretKeyRef": {"name": "key"}}}}),
            "vault",
            "clientTLS.privateKey is set, but clientTLS.certificate is not: a client certificate needs both",
        ),
        (
            json!({"baseUrl": "http://h", "clientTLS": {"renegotiation": "Always"}}),
            "",
            "clientTLS.renegotiation is \"Always\", but must be one of Never, OnceAsClient, FreelyAsClient",
        ),
    ] {
        let (config, _) = resolve(spec, store).await;
        assert_eq!(config, Err(expected.to_owned()));
    }
}

#[tokio::test]
async fn renegotiation_is_warned_about() {
    let (config, logged) = resolve(
        json!({"baseUrl": "http://h", "clientTLS": {"renegotiation": "OnceAsClient"}}),
        "",
    )
    .await;
    config.unwrap();
    assert!(
        logged.contains("HTTPEndpoint e: clientTLS.renegotiation is OnceAsClient, which has no effect"),
        "{logged}"
    );
}
