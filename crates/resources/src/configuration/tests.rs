use super::metrics::LATENCY_BUCKETS;
use super::{Configuration, Error, Feature};
use crate::configuration::access::{Api, ApiRule};
use std::time::Duration;

fn parse(texts: &[&str]) -> Result<Configuration, Error> {
    Configuration::parse(texts.iter().map(|text| ("config.yaml", *text)))
}

fn spec(text: &str) -> Configuration {
    parse(&[&format!(
        "kind: Configuration\nmetadata:\n  name: c\nspec:\n{text}"
    )])
    .unwrap()
}

#[test]
fn defaults_without_a_file() {
    let c = Configuration::default();
    assert_eq!(parse(&[]).unwrap(), c);
    assert_eq!(parse(&[""]).unwrap(), c);
    assert!(c.metrics.enabled && c.metrics.http.increased_cardinality && !c.metrics.http.cardinality_is_set);
    assert!(!c.metrics.record_error_codes && !c.mtls.enabled && c.tracing.otel.is_secure);
    assert_eq!(c.metrics.latency_buckets, LATENCY_BUCKETS);
    assert_eq!(c.access_control.default_action, "allow");
    assert_eq!(c.access_control.trust_domain, "public");
    assert_eq!(
        c.enabled_features().into_iter().collect::<Vec<_>>(),
        ["HotReload", "WorkflowsRemoteActivityReminder"]
    );
}

#[test]
fn everything_is_read() {
    let c = spec(
        r#"
  httpPipeline:
    handlers:
    - {name: up, type: middleware.http.uppercase, version: v1, selector: {fields: [{field: method, value: /x}]}}
  appHttpPipeline: {handlers: [{name: app, type: middleware.http.routeralias}]}
  tracing:
    samplingRate: 1
    stdout: yes
    zipkin: {endpointAddress: "http://z:9411"}
    otel: {protocol: grpc, endpointAddress: "o:4317", isSecure: false, headers: ["a=b%20c,=", "left out", {name: d, value: e}], timeout: 1m30s}
  metric: {enabled: true, http: {increasedCardinality: true}, rules: [{name: old}]}
  metrics:
    enabled: false
    recordErrorCodes: true
    latencyDistributionBuckets: [1, 2]
    http: {increasedCardinality: false, pathMatching: ["/a/{b}"], excludeVerbs: true}
    rules: [{name: m, labels: [{name: l, regex: {orders: "/o/.+"}}]}]
  mtls: {enabled: true, workloadCertTTL: 1h, allowedClockSkew: 5m, sentryAddress: s:1, controlPlaneTrustDomain: t, tokenValidators: [{name: jwks, options: {source: x}}]}
  secrets: {scopes: [{storeName: vault, defaultAccess: Deny, allowedSecrets: [b, a]}]}
  accessControl:
    defaultAction: deny
    policies: [{appId: caller, namespace: ns, trustDomain: td, defaultAction: deny, operations: [{name: /op, httpVerb: [POST], action: allow}]}]
  nameResolution: {component: consul, version: v1, configuration: {selfRegister: true}}
  features: [{name: HotReload, enabled: false}, {name: Mine, enabled: true}]
  api: {allowed: [{name: state, version: v1.0, protocol: HTTP}], denied: [{name: state, version: v1, protocol: grpc}]}
  components: {deny: [state.redis/v1]}
  logging: {apiLogging: {enabled: true, obfuscateURLs: true, omitHealthChecks: true}}
  wasm: {strictSandbox: true}
  workflow:
    maxConcurrentWorkflowInvocations: 3
    globalMaxConcurrentActivityInvocations: 0
    activityConcurrencyLimits: [{name: a, maxConcurrent: 2}]
    stateRetentionPolicy: {completed: 0s, anyTerminal: 72h}
"#,
    );
    assert_eq!(c.name, "c");
    assert_eq!(c.http_pipeline[0].log_name(), "up (middleware.http.uppercase/v1)");
    assert_eq!(c.http_pipeline[0].selector.fields[0].value, "/x");
    assert_eq!(
        c.app_http_pipeline[0].log_name(),
        "app (middleware.http.routeralias)"
    );
    assert!(c.tracing.stdout && (c.tracing.rate() - 1.0).abs() < f64::EPSILON);
    assert_eq!(c.tracing.zipkin.endpoint_address, "http://z:9411");
    assert!(!c.tracing.otel.is_secure);
    assert_eq!(c.tracing.otel.timeout, Some(Duration::from_secs(90)));
    let pairs = c.tracing.otel.header_pairs();
    assert_eq!(
        pairs,
        [
            ("a".to_owned(), "b%20c,=".to_owned()),
            ("d".to_owned(), "e".to_owned())
        ]
    );
    assert!(!c.metrics.enabled && c.metrics.record_error_codes && c.metrics.http.exclude_verbs);
    assert!(!c.metrics.http.increased_cardinality && c.metrics.http.cardinality_is_set);
    assert_eq!(c.metrics.latency_buckets, [1, 2]);
    assert_eq!(c.metrics.rules[0].labels[0].regex["orders"], "/o/.+");
    assert_eq!(c.mtls.workload_cert_ttl, "1h");
    assert_eq!(c.mtls.token_validators[0].options["source"], "x");
    assert_eq!(c.secret_scope("vault").unwrap().allowed, ["a", "b"]);
    assert_eq!(c.access_control.trust_domain, "public");
    assert_eq!(c.access_control.policies[0].operations[0].http_verbs, ["POST"]);
    assert_eq!(
        c.name_resolution.as_ref().unwrap().configuration["selfRegister"],
        true
    );
    assert!(
        c.is_enabled("Mine") && !c.is_enabled("HotReload") && c.is_enabled("WorkflowsRemoteActivityReminder")
    );
    assert!(c.api.allows_http(Some(("v1.0", "state")), "") && !c.api.allows_http(None, "v1.0/publish/x"));
    assert!(!c.api.allows_grpc(&["state.v1"], |_| true));
    assert_eq!(c.denied_components, ["state.redis/v1"]);
    assert!(c.api_logging.enabled && c.api_logging.obfuscate_urls && c.api_logging.omit_health_checks);
    assert!(c.wasm_strict_sandbox);
    assert_eq!(c.workflow.max_concurrent_workflows, Some(3));
    assert_eq!(c.workflow.global_max_concurrent_activities, None);
    assert_eq!(c.workflow.activity_limits[0].max_concurrent, 2);
    assert_eq!(c.workflow.retention.completed, Some(Duration::ZERO));
    assert_eq!(
        c.workflow.retention.any_terminal,
        Some(Duration::from_secs(72 * 3600))
    );
    assert!(!format!("{c:?}").contains("b%20c"), "headers may be credentials");
}

#[test]
fn later_files_win_field_by_field() {
    let c = parse(&[
        "metadata: {name: one}\nspec: {tracing: {samplingRate: '0.5', stdout: true}, features: [{name: A, enabled: true}], mtls: {enabled: true}}",
        "metadata: {name: two}\nspec: {tracing: {samplingRate: '1'}, features: [{name: B, enabled: true}], mtls: null}",
    ])
    .unwrap();
    assert_eq!(c.name, "two");
    assert_eq!((c.tracing.sampling_rate.as_str(), c.tracing.stdout), ("1", true));
    assert!(!c.is_enabled("A") && c.is_enabled("B") && !c.mtls.enabled);
}

#[test]
fn refused() {
    for (text, expect) in [
        (
            "spec: {secrets: {scopes: [{storeName: a}, {storeName: a}]}}",
            "a storeName is repeated in secrets configuration",
        ),
        (
            "spec: {secrets: {scopes: [{defaultAccess: maybe}]}}",
            "defaultAccess maybe can be either allow or deny",
        ),
        (
            "spec:\n  mtls:\n    enabled: maybe",
            "configuration config.yaml: line 3: spec.mtls.enabled: expected true or false without quotes, found text",
        ),
        (
            "spec:\n  tracing: {otel: {timeout: 5}}",
            "configuration config.yaml: line 2: spec.tracing.otel.timeout: time: missing unit in duration \"5\"",
        ),
        (
            "spec: {}\nspec: {}",
            "configuration config.yaml: line 2: mapping key \"spec\" already defined at line 1",
        ),
    ] {
        assert_eq!(parse(&[text]).unwrap_err().to_string(), expect);
    }
}

#[test]
fn names_match_exactly_here() {
    let c = parse(&["spec: {Mtls: {enabled: true}, mtls: {Enabled: true}}"]).unwrap();
    assert!(!c.mtls.enabled);
}

#[test]
fn sampling_rates() {
    for (text, expect) in [
        ("", 0.0001),
        ("x", 0.0001),
        ("0", 0.0),
        ("0.25", 0.25),
        ("1", 1.0),
        ("NaN", 0.0001),
    ] {
        let c = spec(&format!("  tracing: {{samplingRate: '{text}'}}"));
        assert!((c.tracing.rate() - expect).abs() < f64::EPSILON, "{text:?}");
    }
}

#[test]
fn secret_scopes() {
    for (scope, allowed, denied) in [
        ("storeName: s", &["any"][..], &[][..]),
        ("storeName: s, defaultAccess: deny", &[], &["any"]),
        (
            "storeName: s, defaultAccess: deny, allowedSecrets: [z, a]",
            &["a", "z"],
            &["b"],
        ),
        ("storeName: s, deniedSecrets: [z, a]", &["b"], &["a", "z"]),
        (
            "storeName: s, allowedSecrets: [a], deniedSecrets: [a]",
            &["a"],
            &["b"],
        ),
    ] {
        let c = spec(&format!("  secrets: {{scopes: [{{{scope}}}]}}"));
        let scope = c.secret_scope("s").unwrap();
        assert!(allowed.iter().all(|name| scope.allows(name)), "{scope:?}");
        assert!(!denied.iter().any(|name| scope.allows(name)), "{scope:?}");
    }
}

#[test]
fn api_lists() {
    let rule = |protocol: &str, version: &str, name: &str| ApiRule {
        name: name.to_owned(),
        version: version.to_owned(),
        protocol: protocol.to_owned(),
    };
    let (state, publish) = (("v1.0", "state"), ("v1.0", "publish"));
    let list = [rule("HTTP", "v1.0", "state")];
    let legacy = [rule("http", "v1.0", "publish/bus")];
    let route = "v1.0/publish/{pubsubname}/{topic:*}";
    for (allowed, denied, group, route, expect) in [
        (&[][..], &[][..], None, "v1.0/x", true),
        (&list, &[], Some(state), "v1.0/state/{storeName}", true),
        (&list, &[], Some(publish), route, false),
        (&[], &list, Some(state), "v1.0/state/{storeName}", false),
        (&list, &list, Some(state), "v1.0/state/{storeName}", false),
        (&[], &list, None, "v1.0/state-like", false),
        (&legacy, &[], Some(publish), route, false),
        (&[rule("grpc", "v1", "state")], &[], Some(publish), route, true),
    ] {
        let api = Api {
            allowed: allowed.to_vec(),
            denied: denied.to_vec(),
        };
        assert_eq!(api.allows_http(group, route), expect, "{api:?} {group:?} {route}");
    }
    let known = |group: &str| ["state.v1", "invoke.v1"].contains(&group);
    let list = [rule("grpc", "v1", "state")];
    for (allowed, denied, groups, expect) in [
        (&[][..], &[][..], &["state.v1"][..], true),
        (&list, &[], &["state.v1"], true),
        (&list, &[], &["invoke.v1"], false),
        (&list, &[], &[], false),
        (&[], &list, &["state.v1"], false),
        (&[rule("grpc", "v1", "none")], &[], &["invoke.v1"], true),
        (&[rule("GRPC", "v1", "state")], &[], &["invoke.v1"], true),
    ] {
        let api = Api {
            allowed: allowed.to_vec(),
            denied: denied.to_vec(),
        };
        assert_eq!(api.allows_grpc(groups, known), expect, "{api:?} {groups:?}");
    }
}

#[test]
fn repeated_features_end_with_the_last() {
    let c =
        spec("  features: [{name: X, enabled: true}, {name: X, enabled: false}, {name: '', enabled: true}]");
    assert!(!c.is_enabled("X") && !c.is_enabled(""));
    assert!(c.features.contains(&Feature {
        name: "HotReload".to_owned(),
        enabled: true
    }));
}

#[test]
fn variables_fill_gaps_of_tracing() {
    let filled = |document: &str, variables: &[(&str, &str)]| {
        let mut tracing = spec(&format!("  tracing: {document}")).tracing;
        let read = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name)?;
            Some(found.1.to_owned())
        };
        tracing.fill(read).map(|()| tracing)
    };
    let t = filled(
        "{}",
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://o:4318"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "k=v%3D1 , a=b"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
        ],
    )
    .unwrap();
    assert_eq!(
        (t.otel.endpoint_address.as_str(), t.otel.protocol.as_str()),
        ("o:4318", "http")
    );
    assert_eq!((t.sampling_rate.as_str(), t.otel.is_secure), ("1", false));
    assert_eq!(t.otel.headers, ["k=v=1", "a=b"]);
    assert_eq!(t.otel.timeout, Some(Duration::from_millis(2500)));
    let t = filled(
        "{samplingRate: '0.5'}",
        &[
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "traces:4317"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "other:4317"),
        ],
    )
    .unwrap();
    assert_eq!(
        (t.otel.endpoint_address.as_str(), t.otel.protocol.as_str()),
        ("traces:4317", "grpc")
    );
    assert_eq!((t.sampling_rate.as_str(), t.otel.is_secure), ("0.5", true));
    let own = "{otel: {endpointAddress: own}}";
    let t = filled(
        own,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "x"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "broken"),
        ],
    )
    .unwrap();
    assert_eq!(
        (t.otel.endpoint_address.as_str(), t.otel.headers.len()),
        ("own", 0)
    );
    for (name, value, expect) in [
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "secret",
            "OpenTelemetry header 1 lacks '='; write name=value, separated by commas",
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "a=b,b c=d",
            "OpenTelemetry header 2 has a name that HTTP does not allow",
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "a=%zz",
            "OpenTelemetry header 1 has a broken percent escape in its value",
        ),
        (
            "OTEL_EXPORTER_OTLP_TIMEOUT",
            "5s",
            "OTEL_EXPORTER_OTLP_TIMEOUT must be a whole number of milliseconds",
        ),
    ] {
        assert_eq!(filled("{}", &[(name, value)]).unwrap_err().to_string(), expect);
    }
}
