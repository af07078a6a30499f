use super::{Declared, outcome};
use crate::app::Outcome;

#[test]
fn answers_to_an_event() {
    for (status, body, expected) in [
        (200, "", Ok(Outcome::Success)),
        (204, "", Ok(Outcome::Success)),
        (200, "not json", Ok(Outcome::Success)),
        (200, r#"{"status":"SUCCESS"}"#, Ok(Outcome::Success)),
        (200, r#"{"status":""}"#, Ok(Outcome::Success)),
        (200, r#"{"other":1}"#, Ok(Outcome::Success)),
        (200, r#"{"status":"RETRY"}"#, Ok(Outcome::Retry)),
        (200, r#"{"status":"DROP"}"#, Ok(Outcome::Drop)),
        (200, r#"["LATER"]"#, Ok(Outcome::Success)),
        (
            200,
            r#"{"status":"LATER"}"#,
            Err("unknown status returned from app"),
        ),
        (404, "", Ok(Outcome::Drop)),
        (
            500,
            "oops",
            Err(
                "retriable error returned from app while processing pub/sub event: oops. status code returned: 500",
            ),
        ),
    ] {
        match (outcome(status, body.as_bytes()), expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{status} {body}"),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (got, expected) => panic!("{status} {body}: {got:?} instead of {expected:?}"),
        }
    }
}

#[test]
fn both_forms_of_routes_become_one_list() {
    let body = br#"[
        {"pubsubname":"p","topic":"a","route":"/a","metadata":{"rawPayload":"true"}},
        {"pubsubname":"p","topic":"b","deadLetterTopic":"dead",
         "routes":{"rules":[{"match":"event.type == 'x'","path":"/x"}],"default":"/d"}}
    ]"#;
    let parsed = Declared::parse(body).expect("parses");
    let paths = |index: usize| -> Vec<&str> {
        parsed[index]
            .rules
            .iter()
            .map(|rule| rule.path.as_str())
            .collect()
    };
    assert_eq!(paths(0), ["/a"]);
    assert_eq!(parsed[0].metadata.get("rawPayload"), Some("true"));
    assert_eq!(paths(1), ["/x", "/d"]);
    assert_eq!(parsed[1].dead_letter_topic, "dead");
    assert!(Declared::parse(b"null").expect("null").is_empty());
    // What serialisers write for what was left out.
    let nulls = br#"[
        {"pubsubname":"p","topic":"a","route":null,"metadata":null,"deadLetterTopic":null,"bulkSubscribe":null,
         "routes":{"rules":[{"match":null,"path":"/x"}],"default":null}},
        {"pubsubname":"p","topic":"a","routes":null,"metadata":{"a":null},"bulkSubscribe":{"enabled":null}}
    ]"#;
    assert_eq!(Declared::parse(nulls).expect("nulls").len(), 2);
    for body in [
        "{}",
        r#"[["p","a"]]"#,
        r#"[{"routes":[[],"/d"]}]"#,
        r#"[{"routes":{"rules":[["true","/x"]]}}]"#,
        r#"[{"bulkSubscribe":[true,1,1]}]"#,
    ] {
        assert!(Declared::parse(body.as_bytes()).is_err(), "{body}");
    }
}

mod over_sockets {
    //! Apps as they really answer.

    use crate::app::AppChannel as _;
    use crate::app::http::{Config, HttpApp};
    use crate::body::Body;
    use crate::call::{Call, Status};
    use crate::testing::{Certificate, Speaks, serve, tasks};
    use bytes::Bytes;
    use http::{Response, Version};
    use outrigger_component::middleware::{self, HttpMiddleware, Next, Pipeline};
    use outrigger_daemon::metrics;
    use outrigger_daemon::tls::{self, Trust};
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    fn config(port: u16) -> Config {
        Config {
            host: "127.0.0.1".to_owned(),
            port,
            http2: false,
            tls: None,
            token: "token".to_owned(),
            max_concurrency: None,
            health_path: "/healthz".to_owned(),
            health_timeout: Duration::from_secs(1),
            pipeline: None,
            metrics: None,
        }
    }

    fn call(method: &str) -> Call {
        Call {
            method: method.to_owned(),
            ..Call::default()
        }
    }

    #[tokio::test]
    async fn every_protocol_of_the_flag() {
        let certificate = Certificate::new();
        for (speaks, secure, version) in [
            (Speaks::Http1, false, Version::HTTP_11),
            (Speaks::Http1, true, Version::HTTP_11),
            (Speaks::Http2, false, Version::HTTP_2),
        ] {
            let tasks = tasks();
            let answer = move |request: http::Request<_>| async move {
                assert_eq!(request.version(), version);
                assert_eq!(request.headers()["dapr-api-token"], "token");
                Response::new(Body::from(Bytes::from(request.uri().path().to_owned())))
            };
            let server = serve(tasks.spawner(), speaks, secure.then_some(&certificate), answer).await;
            let settings = tls::Client {
                trust: Trust::Anybody,
                ..tls::Client::default()
            };
            let config = Config {
                http2: speaks == Speaks::Http2,
                tls: secure.then(|| Arc::new(tls::client(&settings).unwrap())),
                ..config(server.port)
            };
            let app = HttpApp::new(config, "shop", tasks.spawner()).unwrap();
            for _ in 0..3 {
                let reply = app.invoke(call("a/b")).await.unwrap();
                assert_eq!(reply.status, Status::Http(200));
                assert_eq!(reply.body.collect(10).await.unwrap(), "/a/b");
            }
            app.healthy().await.unwrap();
        }
    }

    #[tokio::test]
    async fn requests_and_probes_are_counted() {
        let tasks = tasks();
        let answer = |request: http::Request<_>| async move {
            let status = if request.uri().path() == "/gone" { 404 } else { 200 };
            let mut response = Response::new(Body::from(Bytes::from_static(b"four")));
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
            response
        };
        let server = serve(tasks.spawner(), Speaks::Http1, None, answer).await;
        let registry = metrics::Registry::new(metrics::Settings::sidecar("shop")).unwrap();
        let counted = metrics::Http::new(&registry, &metrics::HttpConfig::default()).unwrap();
        let counted = Some(Arc::new(counted));
        let app = |port| {
            let config = Config {
                metrics: counted.clone(),
                ..config(port)
            };
            HttpApp::new(config, "shop", tasks.spawner()).unwrap()
        };
        let there = app(server.port);
        there.invoke(call("gone")).await.unwrap();
        there.healthy().await.unwrap();
        let away = app(1);
        assert!(away.invoke(call("a")).await.is_err());
        assert!(away.healthy().await.is_err());
        let exposed = registry.expose();
        let path = if metrics::HttpConfig::default().increased_cardinality {
            ["/gone", "/a"]
        } else {
            ["", ""]
        };
        for line in [
            format!(
                r#"http_client_completed_count{{app_id="shop",method="GET",path="{}",status="404"}} 1"#,
                path[0]
            ),
            format!(
                r#"http_client_completed_count{{app_id="shop",method="GET",path="{}",status="500"}} 1"#,
                path[1]
            ),
            r#"http_client_received_bytes_sum{app_id="shop"} 4"#.to_owned(),
            r#"http_healthprobes_completed_count{app_id="shop",status="200"} 1"#.to_owned(),
            r#"http_healthprobes_completed_count{app_id="shop",status="500"} 1"#.to_owned(),
        ] {
            assert!(
                exposed.contains(&format!("dapr_{line}")),
                "{line} is missing in\n{exposed}"
            );
        }
    }

    /// Answers `/own` itself, puts `/piped` before other paths.
    struct Prefix;

    impl outrigger_component::Component for Prefix {}

    #[async_trait::async_trait]
    impl HttpMiddleware for Prefix {
        async fn handle(&self, mut request: middleware::Request, next: Next<'_>) -> middleware::Response {
            if request.uri().path() == "/own" {
                return middleware::answer(http::StatusCode::FORBIDDEN, "mine");
            }
            let path = format!("/piped{}", request.uri());
            *request.uri_mut() = path.parse().unwrap();
            next.serve(request).await
        }
    }

    #[tokio::test]
    async fn requests_pass_the_pipeline_and_probes_do_not() {
        let tasks = tasks();
        let answer = |request: http::Request<_>| async move {
            Response::new(Body::from(Bytes::from(request.uri().to_string())))
        };
        let server = serve(tasks.spawner(), Speaks::Http1, None, answer).await;
        let pipeline = Pipeline::new(vec![Arc::new(Prefix)]);
        let config = |port| Config {
            pipeline: pipeline.clone(),
            ..config(port)
        };
        let app = HttpApp::new(config(server.port), "shop", tasks.spawner()).unwrap();
        for (method, status, expected) in [("a?b=c", 200, "/piped/a%3Fb=c"), ("own", 403, "mine")] {
            let reply = app.invoke(call(method)).await.unwrap();
            assert_eq!(reply.status, Status::Http(status));
            assert_eq!(reply.body.collect(100).await.unwrap(), expected);
        }
        app.healthy().await.unwrap();
        drop(server);
        let gone = HttpApp::new(config(1), "shop", tasks.spawner()).unwrap();
        assert!(
            gone.invoke(call("a")).await.is_err(),
            "the reason goes past the middlewares"
        );
    }

    /// An app that announces a length and hangs up early has said what it had to say; one that breaks off in the
    /// middle of chunks has not.
    #[tokio::test]
    async fn answers_that_are_cut_off() {
        for (answer, expected) in [
            ("content-length: 999\r\n\r\n\"ok\"", Some("\"ok\"")),
            ("content-length: 999\r\n\r\n", Some("")),
            ("transfer-encoding: chunked\r\n\r\n4\r\n\"ok\"\r\n", None),
        ] {
            let tasks = tasks();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            tasks.spawner().spawn("app", async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut asked = [0; 1024];
                let _read = stream.read(&mut asked).await.unwrap();
                let head = format!("HTTP/1.1 200 OK\r\n{answer}");
                stream.write_all(head.as_bytes()).await.unwrap();
            });
            let app = HttpApp::new(config(port), "shop", tasks.spawner()).unwrap();
            let reply = app.invoke(call("m")).await.unwrap();
            assert_eq!(reply.body.length().filter(|length| *length > 4), None, "{answer}");
            let body = reply.body.collect(100).await;
            assert_eq!(body.ok().as_deref(), expected.map(str::as_bytes), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_percent_sign_alone_is_refused() {
        let tasks = tasks();
        let app = HttpApp::new(config(1), "shop", tasks.spawner()).unwrap();
        let error = app.invoke(call("test%stream")).await.unwrap_err().to_string();
        assert_eq!(error, "parse \"test%stream\": invalid URL escape \"%st\"");
    }
}
