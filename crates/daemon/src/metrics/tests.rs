use std::time::Duration;

use http::StatusCode;

use super::{
    Access, Answer, Applied, Buckets, Component, Direction, Errors, Grpc, Http, HttpConfig, Ingress,
    Invocation, Label, Loading, Policy, ProcessStatus, Registry, Resiliency, Rule, RuleLabel, Settings,
    Shape, process, text,
};
use crate::drain;
use crate::tasks::{OnExit, Tasks};
use crate::testing;

fn registry() -> Registry {
    Registry::new(Settings::sidecar("myapp")).unwrap()
}

const MS: fn(u64) -> Duration = Duration::from_millis;

#[test]
fn exposition() {
    let registry = registry();
    let counter = registry.counter(
        "a.b/c-d",
        "Help with \\ and\nnewline.",
        [Label::open("z"), Label::closed("b")],
    );
    registry.counter("unused", "Not shown.", []);
    counter.with(["quote\" back\\ line\n", ""]).add(3);
    counter.with(["", "x"]).increment();
    let gauge = registry.gauge("gauge", "A gauge.", []);
    gauge.with([]).set(5);
    gauge.with([]).add(-7);
    let sizes = registry.histogram("sizes", "Sizes.", [], Buckets::of(&[1.0, 2.5]));
    [0.0, 1.0, 1.5, 9.0]
        .iter()
        .for_each(|value| sizes.with([]).observe(*value));
    assert_eq!(
        registry.expose(),
        "# HELP dapr_a_b_c_d Help with \\\\ and\\nnewline.\n\
         # TYPE dapr_a_b_c_d counter\n\
         dapr_a_b_c_d{app_id=\"myapp\",b=\"\",z=\"quote\\\" back\\\\ line\\n\"} 3\n\
         dapr_a_b_c_d{app_id=\"myapp\",b=\"x\",z=\"\"} 1\n\
         # HELP dapr_gauge A gauge.\n\
         # TYPE dapr_gauge gauge\n\
         dapr_gauge{app_id=\"myapp\"} -2\n\
         # HELP dapr_sizes Sizes.\n\
         # TYPE dapr_sizes histogram\n\
         dapr_sizes_bucket{app_id=\"myapp\",le=\"1\"} 2\n\
         dapr_sizes_bucket{app_id=\"myapp\",le=\"2.5\"} 3\n\
         dapr_sizes_bucket{app_id=\"myapp\",le=\"+Inf\"} 4\n\
         dapr_sizes_sum{app_id=\"myapp\"} 11.5\n\
         dapr_sizes_count{app_id=\"myapp\"} 4\n"
    );
}

#[test]
fn series_without_labels_have_no_braces() {
    let settings = Settings {
        constants: Vec::new(),
        ..Settings::sidecar("")
    };
    let registry = Registry::new(settings).unwrap();
    registry
        .gauge("sentry/issuercert/expiry_timestamp", "Expiry.", [])
        .with([])
        .set(17);
    let expect = "dapr_sentry_issuercert_expiry_timestamp 17\n";
    assert!(registry.expose().ends_with(expect), "{}", registry.expose());
}

#[test]
fn floats_print_as_go_does() {
    let rows = [
        (0.0, "0"),
        (1.0, "1"),
        (2.5, "2.5"),
        (100_000.0, "100000"),
        (1_048_576.0, "1.048576e+06"),
        (1e21, "1e+21"),
        (0.0001, "0.0001"),
        (0.000_01, "1e-05"),
        (-3.25, "-3.25"),
        (f64::INFINITY, "+Inf"),
        (f64::NAN, "NaN"),
    ];
    for (value, expect) in rows {
        assert_eq!(text::float(value), expect);
    }
}

#[test]
fn default_latency_buckets() {
    let registry = registry();
    let latency = registry.latency("l", "L.", []);
    latency.with([]).observe_duration(Duration::from_micros(1500));
    latency.with([]).observe_duration(MS(70_000));
    let shown = registry.expose();
    for line in [
        "dapr_l_bucket{app_id=\"myapp\",le=\"1\"} 0\n",
        "dapr_l_bucket{app_id=\"myapp\",le=\"2\"} 1\n",
        "dapr_l_bucket{app_id=\"myapp\",le=\"50000\"} 1\n",
        "dapr_l_bucket{app_id=\"myapp\",le=\"100000\"} 2\n",
        "dapr_l_sum{app_id=\"myapp\"} 70001.5\n",
        "dapr_l_count{app_id=\"myapp\"} 2\n",
    ] {
        assert!(shown.contains(line), "{line}{shown}");
    }
    assert_eq!(shown.matches("_bucket").count(), 35);
    let settings = Settings {
        latency: Buckets::milliseconds_at(&[20, 5, 20]),
        ..Settings::sidecar("a")
    };
    let registry = Registry::new(settings).unwrap();
    registry.latency("l", "L.", []).with([]).observe_duration(MS(5));
    let shown = registry.expose();
    assert_eq!(shown.matches("_bucket").count(), 3);
    assert!(shown.contains("le=\"5\"} 1\n"), "{shown}");
}

#[test]
fn a_full_family_shares_one_series() {
    let registry = Registry::new(Settings {
        series_limit: 3,
        ..Settings::sidecar("a")
    })
    .unwrap();
    let counter = registry.counter("c", "C.", [Label::open("path"), Label::closed("status")]);
    for path in 0..10 {
        counter.with([&path.to_string(), "200"]).increment();
    }
    counter.with(["late", "500"]).increment();
    counter.with(["1", "200"]).increment();
    let shown = registry.expose();
    let series: Vec<_> = shown.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        series,
        [
            "dapr_c{app_id=\"a\",path=\"0\",status=\"200\"} 1",
            "dapr_c{app_id=\"a\",path=\"1\",status=\"200\"} 2",
            "dapr_c{app_id=\"a\",path=\"2\",status=\"200\"} 1",
            "dapr_c{app_id=\"a\",path=\"other\",status=\"200\"} 7",
            "dapr_c{app_id=\"a\",path=\"other\",status=\"500\"} 1",
        ]
    );
    // Labels from closed sets are not to be trusted blindly either.
    for status in 0..1000 {
        counter.with(["x", &status.to_string()]).increment();
    }
    let lines = registry.expose().lines().count();
    assert!(lines < 150, "{lines}");
    assert!(registry.expose().contains("path=\"other\",status=\"other\""));
}

#[test]
fn adding_from_many_threads_counts_everything_once() {
    let registry = registry();
    let counter = registry.counter("c", "C.", [Label::open("n")]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..400).for_each(|n| counter.with([&(n % 50).to_string()]).increment()));
        }
    });
    let shown = registry.expose();
    assert_eq!(shown.matches("} 32\n").count(), 50, "{shown}");
}

#[test]
fn rules_rewrite_label_values() {
    let rule = |name: &str, label: &str, pairs: &[(&str, &str)]| Rule {
        name: name.to_owned(),
        labels: vec![RuleLabel {
            name: label.to_owned(),
            replacements: pairs
                .iter()
                .map(|(p, r)| ((*p).to_owned(), (*r).to_owned()))
                .collect(),
        }],
    };
    let rules = vec![
        rule(
            "dapr_http_server_request_count",
            "path",
            &[("/orders/.+", "/orders/{id}"), ("id", "ID")],
        ),
        rule("http/server/latency", "path", &[("^/(\\w+)/.*", "/$1")]),
    ];
    let registry = Registry::new(Settings {
        rules,
        ..Settings::sidecar("a")
    })
    .unwrap();
    let http = Http::new(&registry, &HttpConfig::default()).unwrap();
    for id in 0..3 {
        http.served("GET", &format!("/orders/{id}"), StatusCode::OK, 0, 0, MS(1));
    }
    let shown = registry.expose();
    assert!(
        shown.contains("request_count{app_id=\"a\",method=\"GET\",path=\"/orders/{ID}\",status=\"200\"} 3"),
        "{shown}"
    );
    assert!(
        shown.contains("latency_count{app_id=\"a\",method=\"GET\",path=\"/orders\",status=\"200\"} 3"),
        "{shown}"
    );
    assert!(
        shown.contains("response_count{app_id=\"a\",method=\"GET\",path=\"/orders/2\",status=\"200\"} 1"),
        "{shown}"
    );
    let broken = vec![rule("m", "path", &[("(", "")])];
    let error = Registry::new(Settings {
        rules: broken,
        ..Settings::sidecar("a")
    })
    .err()
    .unwrap()
    .to_string();
    assert!(
        error.starts_with("metrics rule for label \"path\" of \"m\": "),
        "{error}"
    );
}

/// Configuration, then pairs of what is asked for and the `path` label that results.
type Cardinality = (
    bool,
    &'static [&'static str],
    &'static [(&'static str, &'static str)],
);

#[test]
fn path_labels() {
    let templates: &[&str] = &[
        "/v1/orders/{orderID}/items/12345",
        "/v1/orders/{orderID}/items/{itemID}",
        "/v1/items/{itemID}",
    ];
    let rows: &[Cardinality] = &[
        (
            true,
            &[],
            &[
                (
                    "/v1.0/state/statestore/key/with/slashes",
                    "/v1.0/state/statestore",
                ),
                ("/v1.0/state/statestore", "/v1.0/state/statestore"),
                ("/v1.0/secrets/vault/name", "/v1.0/secrets/vault"),
                ("/v1.0/actors/Demo/1/timer/name", "/v1.0/actors/Demo/{id}/timer"),
                ("/v1.0/actors/Demo/1", "/v1.0/actors/Demo/1"),
                ("/actors/Demo/1/method/go", "actors/Demo/{id}/method/go"),
                (
                    "/v1.0-beta1/workflows/dapr/abc",
                    "/v1.0-beta1/workflows/dapr/{instanceId}",
                ),
                (
                    "/v1.0-beta1/workflows/dapr/flow/start",
                    "/v1.0-beta1/workflows/dapr/flow/start",
                ),
                (
                    "/v1.0-beta1/workflows/dapr/abc/pause",
                    "/v1.0-beta1/workflows/dapr/{instanceId}/pause",
                ),
                (
                    "/v1.0-beta1/workflows/dapr/abc/raiseEvent/e",
                    "/v1.0-beta1/workflows/dapr/{instanceId}/raiseEvent/{eventName}",
                ),
                (
                    "/v1.0/invoke/app/method/orders/1",
                    "/v1.0/invoke/app/method/orders/1",
                ),
                ("//v1.0//state//s//k", "/v1.0/state/s"),
                ("/", "/"),
                ("/dapr/config", "/dapr/config"),
            ],
        ),
        (
            false,
            &[],
            &[("/v1.0/state/statestore/key", ""), ("/healthz", "")],
        ),
        (
            true,
            templates,
            &[
                ("/v1/orders/12345/items/12345", "/v1/orders/{orderID}/items/12345"),
                (
                    "/v1/orders/12345/items/1111",
                    "/v1/orders/{orderID}/items/{itemID}",
                ),
                ("/v1/items/12345", "/v1/items/{itemID}"),
                ("/v2/basket/12345", "/v2/basket/12345"),
                (
                    "/v1.0/invoke/shop/method/v1/items/7",
                    "/v1.0/invoke/{app_id}/method/v1/items/{itemID}",
                ),
            ],
        ),
        (
            false,
            &[
                "/v1/orders/{orderID}",
                "/v1/",
                "/",
                "/tree/",
                "/files/{rest...}",
                "/exact/{$}",
            ],
            &[
                ("/v1/orders/12345", "/v1/orders/{orderID}"),
                ("/v1/basket/7", "/v1/"),
                ("/v2/orders/1111", "/"),
                ("/tree", "/tree/"),
                ("/files/a/b", "/files/{rest...}"),
                ("/exact/", "/exact/{$}"),
                ("/exact/more", "/"),
                ("/dapr/config", "/dapr/config"),
            ],
        ),
        (
            false,
            &[
                "/actors/Weather/{id}/method/Get",
                "/v1.0/actors/Weather/{id}/method/Get",
            ],
            &[
                (
                    "/v1.0/actors/Weather/a-1/method/Get",
                    "/v1.0/actors/Weather/{id}/method/Get",
                ),
                ("/some/other/path", ""),
            ],
        ),
    ];
    for (increased_cardinality, templates, paths) in rows {
        for (path, expect) in *paths {
            let registry = registry();
            let config = HttpConfig {
                increased_cardinality: *increased_cardinality,
                path_matching: templates.iter().map(|template| (*template).to_owned()).collect(),
                exclude_verbs: false,
            };
            let http = Http::new(&registry, &config).unwrap();
            http.served("PATCH", path, StatusCode::CREATED, 7, 9, MS(2));
            let labels =
                format!("{{app_id=\"myapp\",method=\"PATCH\",path=\"{expect}\",status=\"201\"}} 1\n");
            let shown = registry.expose();
            assert!(
                shown.contains(&format!("dapr_http_server_request_count{labels}")),
                "{path}: {shown}"
            );
            let responses = shown.contains(&format!("dapr_http_server_response_count{labels}"));
            assert_eq!(responses, *increased_cardinality, "{path}");
        }
    }
}

#[test]
fn unusable_templates_are_refused() {
    let rows: &[(&[&str], &str)] = &[
        (
            &["/a/{x}", "/a/{y}"],
            "metrics path templates \"/a/{x}\" and \"/a/{y}\" match the same paths: keep one",
        ),
        (&["/a{x}"], "metrics path template \"/a{x}\""),
        (&["/{}"], "metrics path template \"/{}\""),
        (&["/{a...}/b"], "metrics path template \"/{a...}/b\""),
    ];
    for (templates, expect) in rows {
        let path_matching = templates.iter().map(|template| (*template).to_owned()).collect();
        let config = HttpConfig {
            path_matching,
            ..HttpConfig::default()
        };
        let error = Http::new(&registry(), &config).err().unwrap().to_string();
        assert!(error.starts_with(expect), "{error}");
    }
}

#[test]
fn verbs() {
    for (exclude_verbs, method, expect) in [
        (false, "GET", "GET"),
        (false, "BREW", "UNKNOWN"),
        (true, "GET", ""),
        (true, "BREW", ""),
    ] {
        let registry = registry();
        let http = Http::new(
            &registry,
            &HttpConfig {
                exclude_verbs,
                ..HttpConfig::default()
            },
        )
        .unwrap();
        http.served(method, "/x", StatusCode::OK, 0, 0, MS(1));
        assert!(
            registry.expose().contains(&format!("method=\"{expect}\"")),
            "{method}"
        );
    }
}

#[test]
fn families_carry_the_reference_s_names_and_labels() {
    let registry = registry();
    let http = Http::new(&registry, &HttpConfig::default()).unwrap();
    http.sending("POST", "/method", 12);
    http.called("POST", "/method", StatusCode::OK, 34, MS(3));
    http.probed(StatusCode::OK, MS(1));
    let grpc = Grpc::new(&registry);
    grpc.served("/d.D/GetState", "OK", 10, 20, MS(1));
    grpc.called("/d.A/OnInvoke", "NotFound", 1, 2, MS(1));
    grpc.probed("OK", MS(1));
    let component = Component::new(&registry, "default");
    component.state("store", "get", true, MS(1));
    component.secret("vault", "bulk_get", false, MS(1));
    component.published("bus", "orders", true, MS(1));
    component.published_bulk("bus", "orders", true, 4, MS(1));
    component.delivered(Ingress {
        component: "bus",
        topic: "orders",
        outcome: ProcessStatus::Drop,
        status: Some(ProcessStatus::Success),
        elapsed: None,
    });
    component.delivered_bulk(
        "bus",
        "orders",
        &[(ProcessStatus::Retry, 2), (ProcessStatus::Drop, 0)],
        Some(MS(1)),
    );
    let loading = Loading::new(&registry);
    loading.loaded();
    loading.initialised("state.redis");
    loading.failed("state.redis", "store", "init");
    Errors::new(&registry).answered("ERR_STATE_GET", "state");
    let invocation = Invocation::new(&registry);
    invocation.sent("other", Shape::Unary);
    invocation.received("other");
    invocation.answered("other", Answer::Grpc(5));
    invocation.replied(
        "other",
        Answer::Http(StatusCode::BAD_GATEWAY),
        Shape::Streaming,
        MS(1),
    );
    Access::new(&registry).by_app(false, "caller", "public", "ns");
    let resiliency = Resiliency::new(&registry);
    resiliency.loaded("policy", "default");
    let applied = Applied {
        name: "policy",
        namespace: "default",
        policy: Policy::CircuitBreaker("open"),
        direction: Direction::Outbound,
        target: "app_other",
    };
    resiliency.executed(applied);
    resiliency.activated(Applied {
        policy: Policy::Retry,
        ..applied
    });

    let shown = registry.expose();
    let common = "flow_direction=\"outbound\",name=\"policy\",namespace=\"default\"";
    for line in [
        "http_client_sent_bytes_count{app_id=\"myapp\",method=\"POST\",path=\"/method\",status=\"\"} 1",
        "http_client_completed_count{app_id=\"myapp\",method=\"POST\",path=\"/method\",status=\"200\"} 1",
        "http_client_received_bytes_sum{app_id=\"myapp\"} 34",
        "http_healthprobes_completed_count{app_id=\"myapp\",status=\"200\"} 1",
        "grpc_io_server_completed_rpcs{app_id=\"myapp\",grpc_server_method=\"/d.D/GetState\",grpc_server_status=\"OK\"} 1",
        "grpc_io_server_received_bytes_per_rpc_sum{app_id=\"myapp\",grpc_server_method=\"/d.D/GetState\"} 10",
        "grpc_io_client_roundtrip_latency_count{app_id=\"myapp\",grpc_client_method=\"/d.A/OnInvoke\",grpc_client_status=\"NotFound\"} 1",
        "grpc_io_healthprobes_completed_count{app_id=\"myapp\",grpc_client_status=\"OK\"} 1",
        "component_state_count{app_id=\"myapp\",component=\"store\",namespace=\"default\",operation=\"get\",success=\"true\"} 1",
        "component_secret_latencies_count{app_id=\"myapp\",component=\"vault\",namespace=\"default\",operation=\"bulk_get\",success=\"false\"} 1",
        "component_pubsub_egress_count{app_id=\"myapp\",component=\"bus\",namespace=\"default\",success=\"true\",topic=\"orders\"} 1",
        "component_pubsub_egress_bulk_event_count{app_id=\"myapp\",component=\"bus\",namespace=\"default\",success=\"true\",topic=\"orders\"} 4",
        "component_pubsub_ingress_count{app_id=\"myapp\",component=\"bus\",namespace=\"default\",process_status=\"drop\",status=\"success\",topic=\"orders\"} 1",
        "component_pubsub_ingress_bulk_count{app_id=\"myapp\",component=\"bus\",namespace=\"default\",process_status=\"\",topic=\"orders\"} 1",
        "component_pubsub_ingress_bulk_event_count{app_id=\"myapp\",component=\"bus\",namespace=\"default\",process_status=\"RETRY\",topic=\"orders\"} 2",
        "runtime_component_loaded{app_id=\"myapp\"} 1",
        "runtime_component_init_total{app_id=\"myapp\",component=\"state.redis\"} 1",
        "runtime_component_init_fail_total{app_id=\"myapp\",component=\"state.redis\",componentName=\"store\",reason=\"init\"} 1",
        "error_code_total{app_id=\"myapp\",category=\"state\",error_code=\"ERR_STATE_GET\"} 1",
        "runtime_service_invocation_req_sent_total{app_id=\"myapp\",dst_app_id=\"other\",type=\"unary\"} 1",
        "runtime_service_invocation_req_recv_total{app_id=\"myapp\",src_app_id=\"other\"} 1",
        "runtime_service_invocation_res_sent_total{app_id=\"myapp\",dst_app_id=\"other\",status=\"5\"} 1",
        "runtime_service_invocation_res_recv_total{app_id=\"myapp\",src_app_id=\"other\",status=\"502\",type=\"streaming\"} 1",
        "runtime_acl_app_policy_action_blocked_total{app_id=\"caller\",namespace=\"ns\",trustDomain=\"public\"} 1",
        "resiliency_loaded{app_id=\"myapp\",name=\"policy\",namespace=\"default\"} 1",
        &format!(
            "resiliency_count{{app_id=\"myapp\",{common},policy=\"circuitbreaker\",status=\"open\",target=\"app_other\"}} 1"
        ),
        &format!(
            "resiliency_cb_state{{app_id=\"myapp\",{common},policy=\"circuitbreaker\",status=\"open\",target=\"app_other\"}} 1"
        ),
        &format!(
            "resiliency_cb_state{{app_id=\"myapp\",{common},policy=\"circuitbreaker\",status=\"closed\",target=\"app_other\"}} 0"
        ),
        &format!(
            "resiliency_activations_total{{app_id=\"myapp\",{common},policy=\"retry\",status=\"\",target=\"app_other\"}} 1"
        ),
    ] {
        assert!(
            shown.contains(&format!("\ndapr_{line}\n")),
            "{line}\nnot in\n{shown}"
        );
    }
    assert!(
        !shown.contains("pubsub_ingress_latencies"),
        "not timed, not shown"
    );
    assert!(!shown.contains("res_recv_latency_ms"), "streams are not timed");
}

#[test]
#[should_panic(expected = "metric \"dapr_c\" is declared twice")]
fn declaring_twice_is_a_mistake() {
    let registry = registry();
    registry.counter("c", "C.", []);
    registry.counter("c", "C.", []);
}

#[tokio::test]
async fn the_endpoint_answers_any_path_with_process_metrics() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let (log, _) = testing::log();
    let (trigger, watch) = drain::channel();
    let tasks = Tasks::new(&log, drain::channel().0);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let registry = registry();
    process(&registry);
    let spawner = tasks.spawner();
    tasks.spawn("metrics", OnExit::Log, async move {
        super::serve(
            drain::serve::Listener::from(listener),
            registry,
            watch,
            &spawner,
            &log,
        )
        .await;
    });
    for path in ["/", "/metrics", "/what/ever"] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
        assert!(
            answer.contains("content-type: text/plain; version=0.0.4"),
            "{answer}"
        );
        let value = |name: &str| -> f64 {
            let line = answer
                .lines()
                .find(|line| line.starts_with(&format!("{name} ")))
                .unwrap();
            line.rsplit_once(' ').unwrap().1.parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(value("process_virtual_memory_max_bytes") >= value("process_virtual_memory_bytes"));
        // This test has spoken over the loopback interface.
        assert!(value("process_network_receive_bytes_total") > 0.0);
        assert!(value("process_network_transmit_bytes_total") > 0.0);
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") > value("process_open_fds"));
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs_f64();
        let age = now - value("process_start_time_seconds");
        assert!((-2.0..3600.0).contains(&age), "{age}");
    }
    trigger.fire();
    tasks.join(Duration::from_secs(60)).await.unwrap();
}
