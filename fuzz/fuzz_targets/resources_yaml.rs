//! Resource and configuration files: whatever is in them becomes values, warnings or an error, in bounded time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger_resources::component::Component;
use outrigger_resources::configuration::Configuration;
use outrigger_resources::disk::{Audience, Documents, Resource, select};
use outrigger_resources::expand::expand;
use outrigger_resources::go;
use outrigger_resources::http_endpoint::HttpEndpoint;
use outrigger_resources::resiliency::Resiliency;
use outrigger_resources::subscription::Subscription;
use outrigger_resources::{references, template, yaml};
use std::fmt::Debug;
use std::sync::Arc;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = yaml::text(bytes) else {
        return;
    };
    let documents = Documents::of_text("fuzz.yaml", text);
    for warning in &documents.warnings {
        assert!(!warning.to_string().is_empty());
    }
    for component in load::<Component>(&documents) {
        properties(component);
    }
    load::<HttpEndpoint>(&documents);
    load::<Subscription>(&documents);
    let resiliency = load::<Resiliency>(&documents);
    outrigger_resiliency::load::load(&resiliency, Arc::new(()));

    let variable = |name: &str| (name.len() % 2 == 0).then(|| name.to_lowercase());
    let expanded = expand(text, variable);
    shown(Configuration::parse([("a.yaml", &*expanded)]));
    // The first document over the second, and the other way round.
    let mut parts = yaml::split(text).map(|document| document.text);
    if let (Some(first), Some(second)) = (parts.next(), parts.next()) {
        shown(Configuration::parse([("a.yaml", first), ("b.yaml", second)]));
        shown(Configuration::parse([("b.yaml", second), ("a.yaml", first)]));
    }
    go_texts(text);
});

fn load<T: Resource + Debug>(documents: &Documents) -> Vec<T> {
    let loaded = documents.load::<T>();
    for warning in &loaded.warnings {
        assert!(!warning.to_string().is_empty());
    }
    assert!(!format!("{:?}", loaded.items).is_empty());
    let audience = Audience {
        app_id: "shop",
        namespace: Some("default"),
    };
    // What duplicates is refused as a whole; the rest of the target wants the items.
    match select(documents.load::<T>().items, audience) {
        Ok(items) => assert!(items.len() <= loaded.items.len()),
        Err(duplicates) => assert!(!duplicates.to_string().is_empty()),
    }
    loaded.items
}

fn properties(mut component: Component) {
    assert!(!format!("{} {}", component.log_name(), component.block()).is_empty());
    let wanted = references::secrets(&component.metadata).len();
    assert!(wanted <= component.metadata.len());
    references::resolve(
        &mut component.metadata,
        |_| Some("x".to_owned()),
        "",
        &Default::default(),
    );
    let names = template::Names {
        app_id: "shop",
        namespace: "default",
        pod: "",
    };
    if let Ok(properties) = template::properties(&component.metadata, names, || "u".to_owned()) {
        assert!(properties.values().all(|value| !value.contains("{uuid}")));
    }
}

fn shown<T: Debug, E: std::fmt::Display>(outcome: Result<T, E>) {
    match outcome {
        Ok(value) => assert!(!format!("{value:?}").is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Go's textual forms: what is written can be read again, and means the same.
fn go_texts(text: &str) {
    let line = text.lines().next().unwrap_or_default();
    if let Ok(nanoseconds) = go::duration::parse(line) {
        assert_eq!(
            go::duration::parse(&go::duration::format(nanoseconds)),
            Ok(nanoseconds)
        );
    }
    if let Ok(number) = line.parse::<f64>() {
        let single = number as f32;
        if !single.is_nan() {
            assert_eq!(go::float::shortest(number).parse(), Ok(single), "{line}");
        }
        go::float::json(number);
    }
    for quoted in [go::quote::quote(line), go::quote::quote_ascii(line)] {
        assert_eq!(go::quote::unquote(&quoted).as_deref(), Some(line));
    }
    go::quote::unquote(line);
    shown(go::quantity::parse(line));
    shown(go::boolean(line));
}
