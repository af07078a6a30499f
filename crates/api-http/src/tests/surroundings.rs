//! Token, origins, trace headers, metrics, access log, access rules, change to HTTP/2.

use super::bench::Bench;
use crate::{ApiLogging, Config, Filter};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn token_and_origins() {
    let config = |origins: &str, token: &str| Config {
        allowed_origins: origins.to_owned(),
        api_token: token.to_owned(),
        ..Config::default()
    };
    let preflight: &[&str] = &["origin: https://a.example", "access-control-request-method: GET"];
    let all = Some("*");
    let own = Some("https://a.example");
    for (origins, token, line, headers, status, origin) in [
        ("*", "test", "OPTIONS /v1.0/metadata", preflight, 200, all),
        (
            "https://a.example",
            "test",
            "OPTIONS /v1.0/metadata",
            preflight,
            200,
            own,
        ),
        (
            "https://b.example",
            "test",
            "OPTIONS /v1.0/metadata",
            preflight,
            200,
            None,
        ),
        ("", "test", "OPTIONS /v1.0/metadata", preflight, 401, None),
        ("", "", "OPTIONS /v1.0/metadata", preflight, 404, None),
        (
            "*",
            "test",
            "GET /v1.0/metadata",
            &["dapr-api-token: test"],
            200,
            None,
        ),
        (
            "*",
            "test",
            "GET /v1.0/metadata",
            &["dapr-api-token: foo", "origin: x"],
            401,
            all,
        ),
        ("", "test", "GET /v1.0/healthz", &[], 204, None),
        ("", "test", "GET /v1.0/metadata", &[], 401, None),
    ] {
        let bench = Bench::new(config(origins, token)).await;
        let answer = bench.ask(line, headers, "").await;
        assert_eq!(answer.status, status, "{origins} {line} {headers:?}");
        assert_eq!(
            answer.header("access-control-allow-origin"),
            origin,
            "{origins} {line} {headers:?}"
        );
        assert_eq!(
            answer.header("vary").is_some(),
            !origins.is_empty(),
            "{origins} {line}"
        );
        if status == 401 {
            assert_eq!(answer.body, "invalid api token\n");
        }
    }
    let bench = Bench::new(config("", "test")).await;
    let answer = bench
        .ask(
            "GET /v1.0/invoke/shop/method/echo",
            &["dapr-api-token: test", "a: 1"],
            "",
        )
        .await;
    assert_eq!(
        answer.header("x-names"),
        Some("a"),
        "the token is ours and goes no further"
    );
    assert_eq!(
        bench
            .ask_at(bench.public, "GET /v1.0/metadata", &[], "")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn trace_headers() {
    let bench = Bench::tracing(Config::default(), Some("1")).await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let sent = format!("traceparent: {parent}");
    let answer = bench
        .ask(
            "GET /v1.0/invoke/shop/method/echo",
            &[&sent, "tracestate: a=b", "baggage: k=v"],
            "",
        )
        .await;
    let back = answer.header("traceparent").unwrap();
    assert!(
        back.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && back != parent,
        "{back}"
    );
    assert_eq!(answer.header("tracestate"), Some("a=b"));
    assert_eq!(answer.header("baggage"), Some("k=v"));
    assert_eq!(answer.header("x-names"), Some("baggage traceparent tracestate"));

    assert!(
        bench
            .ask("GET /v1.0/metadata", &[], "")
            .await
            .header("traceparent")
            .is_some()
    );
    assert_eq!(
        bench
            .ask("GET /v1.0/healthz", &["baggage: nonsense"], "")
            .await
            .header("traceparent"),
        None
    );
    let refused = bench.ask("GET /v1.0/metadata", &["baggage: nonsense"], "").await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.body.starts_with("invalid baggage header: "),
        "{refused:?}"
    );

    // Nothing configured: what comes in is checked and passed on.
    let plain = Bench::new(Config::default()).await;
    let answer = plain.ask("GET /v1.0/invoke/shop/method/echo", &[&sent], "").await;
    assert_eq!(answer.header("traceparent"), Some(parent));
    let refused = plain.ask("GET /v1.0/metadata", &["baggage: nonsense"], "").await;
    assert_eq!(refused.status, 400);

    let off = Bench::tracing(Config::default(), Some("0")).await;
    let fields = [&sent, "baggage: nonsense"];
    let answer = off.ask("GET /v1.0/invoke/shop/method/echo", &fields, "").await;
    assert_eq!(answer.header("traceparent"), None);
    assert_eq!(answer.header("x-names"), Some("baggage traceparent"));
}

#[tokio::test]
async fn metrics_and_access_log() {
    let api_logging = Some(ApiLogging {
        obfuscate_urls: false,
        omit_health_checks: true,
    });
    let bench = Bench::new(Config {
        api_logging,
        ..Config::default()
    })
    .await;
    bench
        .ask(
            "POST /v1.0/state/s",
            &["user-agent: test/1"],
            r#"[{"key":"k","value":1}]"#,
        )
        .await;
    bench.ask("GET /v1.0/state/s/k", &[], "").await;
    bench.ask("GET /v1.0/healthz", &[], "").await;
    let chunked = "POST /v1.0/invoke/shop/method/echo HTTP/1.1\r\nhost: d\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let answer = bench.raw(chunked).await.unwrap();
    assert!(answer.body.contains("abc"), "{answer:?}");
    let metrics = bench.metrics();
    for line in [
        r#"dapr_http_server_request_count{app_id="shop",method="POST",path="/v1.0/state/s",status="204"} 1"#,
        r#"dapr_http_server_request_count{app_id="shop",method="GET",path="/v1.0/state/s",status="200"} 1"#,
        r#"dapr_http_server_response_count{app_id="shop",method="GET",path="/v1.0/healthz",status="204"} 1"#,
        r#"dapr_http_server_request_count{app_id="shop",method="POST",path="/v1.0/invoke/shop/method/echo",status="200"} 1"#,
        r#"dapr_http_server_request_bytes_sum{app_id="shop"} 23"#,
        r#"dapr_http_server_response_bytes_sum{app_id="shop"} 4"#,
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    let logged = bench.logged();
    let lines: Vec<&str> = logged
        .lines()
        .filter(|line| line.contains("HTTP API Called"))
        .collect();
    assert_eq!(lines.len(), 3, "{logged}");
    for (line, fields) in lines.iter().zip([
        &[
            "method=\"POST /v1.0/state/s\"",
            "code=204",
            "useragent=test/1",
            "size=0",
            "scope=dapr.runtime.http-info",
        ][..],
        &[
            "method=\"GET /v1.0/state/s/k\"",
            "code=200",
            "size=1",
            "duration=",
        ],
        &[
            "method=\"POST /v1.0/invoke/shop/method/echo\"",
            "code=200",
            "size=3",
        ],
    ]) {
        for field in fields {
            assert!(line.contains(field), "{field} is missing in {line}");
        }
    }

    let api_logging = Some(ApiLogging {
        obfuscate_urls: true,
        omit_health_checks: false,
    });
    let bench = Bench::new(Config {
        api_logging,
        ..Config::default()
    })
    .await;
    bench.ask("GET /v1.0/state/s/private", &[], "").await;
    bench.ask("GET /v1.0/invoke/shop/method/private", &[], "").await;
    bench.ask("GET /v1.0/healthz", &[], "").await;
    let logged = bench.logged();
    for name in ["method=GetState", "method=InvokeService/shop", "method=Healthz"] {
        assert!(logged.contains(name), "{name} is missing in {logged}");
    }
    let shown: Vec<&str> = logged
        .lines()
        .filter(|line| line.contains("API Called"))
        .collect();
    assert!(shown.iter().all(|line| !line.contains("private")), "{shown:?}");
}

#[tokio::test]
async fn access_rules() {
    let filter = |allowed: &[(&'static str, &'static str)], denied: &[(&'static str, &'static str)]| Config {
        filter: Filter::new(allowed.iter().copied(), denied.iter().copied()),
        ..Config::default()
    };
    for (config, line, status, body) in [
        (
            filter(&[], &[("v1", "state")]),
            "GET /v1.0/state/s/k",
            404,
            "ERR_DIRECT_INVOKE",
        ),
        (filter(&[], &[("v1", "state")]), "GET /v1.0/healthz", 204, ""),
        (
            filter(&[("v1", "invoke")], &[]),
            "GET /v1.0/state/s/k",
            404,
            "ERR_DIRECT_INVOKE",
        ),
        (filter(&[("v1", "state")], &[]), "GET /v1.0/state/s/k", 204, ""),
        (
            filter(&[("v1", "state")], &[]),
            "GET /v1.0/invoke/shop/method/echo",
            404,
            "404 page not found",
        ),
        (filter(&[("v1", "state")], &[]), "PATCH /v1.0/state/s", 405, ""),
    ] {
        let answer = Bench::new(config).await.ask(line, &[], "").await;
        assert_eq!(answer.status, status, "{line}");
        assert!(answer.body.contains(body), "{line}: {answer:?}");
    }
}

const ASK: &[u8] = b"GET /v1.0/metadata?x=1 HTTP/1.1\r\nhost: door\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n";

#[tokio::test]
async fn http1_becomes_http2() {
    let bench = Bench::new(Config {
        h2c: true,
        ..Config::default()
    })
    .await;
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    stream.write_all(ASK).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(
        head.starts_with("HTTP/1.1 101 ") && head.contains("upgrade: h2c"),
        "{head}"
    );

    // Preface and empty SETTINGS, as the client must send first; then a second request on stream 3 in literals.
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let request = http::Request::get("/v1.0/healthz")
        .header("host", "door")
        .body(())
        .unwrap();
    let mut second = crate::upgrade::splice::opening(&request).to_vec();
    second[8] = 3;
    stream.write_all(&second).await.unwrap();

    // Frames: what is of interest are the HEADERS (1) and DATA (0) of streams 1 and 3.
    let (mut answered, mut body) = (Vec::new(), Vec::new());
    while answered.len() < 2 || !body.ends_with(b"}") {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.unwrap();
        match (head[3], head[8]) {
            (1, stream) => answered.push(stream),
            (0, 1) => body.extend(payload),
            _ => {}
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, [1, 3]);
    assert!(
        body.starts_with(br#"{"id":"shop""#),
        "{}",
        String::from_utf8_lossy(&body)
    );
}

#[tokio::test]
async fn http1_stays_http1() {
    for (h2c, request) in [
        (false, ASK.to_vec()),
        // A body would have to be kept: answered as it came.
        (
            true,
            [&ASK[..ASK.len() - 2], b"content-length: 2\r\n\r\nxx"].concat(),
        ),
    ] {
        let bench = Bench::new(Config {
            h2c,
            ..Config::default()
        })
        .await;
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        stream.write_all(&request).await.unwrap();
        let mut head = [0; 15];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
    }
}
