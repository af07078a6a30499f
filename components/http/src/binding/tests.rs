use super::Http;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use outrigger_component::binding::{Failed, Invoke, Output, OutputBinding};
use outrigger_component::error::{Kind, Result};
use outrigger_component::registry::Registry;
use outrigger_testkit::app::App;
use outrigger_testkit::client::{Body, full};
use outrigger_testkit::setup::setup;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

async fn build(metadata: &[(&str, &str)]) -> Result<Arc<dyn OutputBinding>> {
    let mut registry = Registry::default();
    registry.output_binding("http", Http::build);
    registry
        .output_bindings()
        .build("http", "v1", setup(metadata))
        .await
}

/// Says back what it was asked, headers sorted; some paths behave otherwise.
async fn answer(request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let path = head.uri.path();
    let mut answer = Response::builder()
        .header("x-two-words", "a")
        .header("x-two-words", "b");
    answer = match path {
        "/api/gone" => answer.status(404),
        "/api/moved" => answer.status(302).header("location", "/api/here"),
        "/api/kept" => answer.status(307).header("location", "/api/here"),
        "/api/loop" => answer.status(302).header("location", "/api/loop"),
        "/api/large" => return answer.body(full("x".repeat(1 << 20))).unwrap(),
        "/api/slow" => {
            tokio::time::sleep(Duration::from_secs(5)).await;
            answer
        }
        _ => answer,
    };
    let mut headers: Vec<String> = head
        .headers
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "host" | "content-length"))
        .map(|(name, value)| format!(" {name}={}", value.to_str().unwrap()))
        .collect();
    headers.sort();
    let text = format!(
        "{} {}{} {}",
        head.method,
        head.uri,
        headers.concat(),
        String::from_utf8_lossy(&body)
    );
    answer.body(full(text)).unwrap()
}

async fn ask(
    binding: &Arc<dyn OutputBinding>,
    operation: &str,
    metadata: &[(&str, &str)],
) -> Result<Output, Failed> {
    let invoke = Invoke {
        operation: operation.to_owned(),
        data: "data".into(),
        metadata: metadata.iter().copied().collect(),
    };
    Ok(binding.invoke(invoke).await?.expect("there is always an answer"))
}

#[tokio::test]
async fn requests_and_answers() {
    let app = App::start(0, answer).await;
    let url = format!("http://127.0.0.1:{}/api/", app.port());
    let binding = build(&[
        ("url", &url),
        ("securityToken", "t"),
        ("securityTokenHeader", "X-Token"),
    ])
    .await
    .unwrap();
    let json = "application/json; charset=utf-8";
    let bare = format!("accept={json} user-agent=outrigger x-token=t");
    let typed = format!("accept={json} content-type={json} user-agent=outrigger x-token=t");
    for (operation, metadata, expected) in [
        ("create", &[][..], format!("POST /api/ {typed} data")),
        ("post", &[], format!("POST /api/ {typed} data")),
        ("put", &[], format!("PUT /api/ {typed} data")),
        (
            "patch",
            &[("path", "//a?b=c")],
            format!("PATCH /api/a?b=c {typed} data"),
        ),
        ("get", &[("path", "a/b")], format!("GET /api/a/b {bare} ")),
        ("delete", &[], format!("DELETE /api/ {bare} ")),
        ("options", &[], format!("OPTIONS /api/ {bare} ")),
        ("trace", &[], format!("TRACE /api/ {bare} ")),
        (
            "post",
            &[
                ("Content-Type", "text/plain"),
                ("Accept", "*/*"),
                ("X-Token", "mine"),
                ("other", "1"),
            ],
            "POST /api/ accept=*/* content-type=text/plain user-agent=outrigger x-token=mine data".to_owned(),
        ),
        (
            "get",
            &[
                ("Traceparent", "theirs"),
                ("traceparent", "ours"),
                ("baggage", "k=v"),
                ("tracestate", ""),
            ],
            format!("GET /api/ accept={json} baggage=k=v traceparent=ours user-agent=outrigger x-token=t "),
        ),
        ("post", &[("path", "moved")], format!("GET /api/here {bare} ")),
        (
            "post",
            &[("path", "kept")],
            format!("POST /api/here {typed} data"),
        ),
    ] {
        let output = ask(&binding, operation, metadata).await.unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.data),
            expected,
            "{operation} {metadata:?}"
        );
        let get = |name| output.metadata.get(name);
        assert_eq!(
            [get("statusCode"), get("status"), get("X-Two-Words")],
            [Some("200"), Some("200 OK"), Some("a, b")]
        );
    }
    let head = ask(&binding, "head", &[]).await.unwrap();
    assert!(head.data.is_empty());
}

#[tokio::test]
async fn answers_that_are_no_success() {
    let app = App::start(0, answer).await;
    let url = format!("http://127.0.0.1:{}/api", app.port());
    for (component, request, fails) in [
        ("", "", true),
        ("true", "", true),
        ("false", "", false),
        ("", "no", false),
        ("false", "1", true),
    ] {
        let binding = build(&[("url", &url), ("errorIfNot2XX", component)])
            .await
            .unwrap();
        let outcome = ask(&binding, "get", &[("path", "gone"), ("errorIfNot2XX", request)]).await;
        let metadata = match outcome {
            Ok(output) => {
                assert!(!fails, "{component} {request}");
                assert!(!output.data.is_empty());
                output.metadata
            }
            Err(failed) => {
                assert!(fails, "{component} {request}");
                assert_eq!(failed.error.to_string(), "received status code 404");
                failed.metadata
            }
        };
        assert_eq!(metadata.get("statusCode"), Some("404"));
    }
}

#[tokio::test]
async fn size_and_time_are_bounded() {
    let app = App::start(0, answer).await;
    let url = format!("http://127.0.0.1:{}/api", app.port());
    for (limit, expected) in [
        ("", 1 << 20),
        ("1000", 1000),
        ("2Ki", 2048),
        ("0", 1 << 20),
        ("-1", 1 << 20),
    ] {
        let binding = build(&[("url", &url), ("maxResponseBodySize", limit)])
            .await
            .unwrap();
        let output = ask(&binding, "get", &[("path", "large")]).await.unwrap();
        assert_eq!(output.data.len(), expected, "{limit}");
    }
    let binding = build(&[("url", &url), ("responseTimeout", "100ms")])
        .await
        .unwrap();
    let began = Instant::now();
    let late = ask(&binding, "get", &[("path", "slow")]).await.unwrap_err();
    assert_eq!(late.error.kind, Kind::Timeout);
    assert!(began.elapsed() < Duration::from_secs(4));
    let endless = ask(&binding, "get", &[("path", "loop")]).await.unwrap_err();
    assert_eq!(endless.error.to_string(), "stopped after 10 redirects");
}

#[tokio::test]
async fn servers_that_are_not_there() {
    let port = {
        let app = App::start(0, answer).await;
        app.port()
    };
    let binding = build(&[("url", &format!("http://ann:pw@127.0.0.1:{port}/x"))])
        .await
        .unwrap();
    let gone = ask(&binding, "get", &[]).await.unwrap_err().error;
    assert_eq!(gone.kind, Kind::Unavailable);
    let text = gone.to_string();
    assert!(
        text.starts_with(&format!("GET http://127.0.0.1:{port}/x: ")),
        "{text}"
    );
    assert!(!text.contains("pw"), "{text}");
    // TLS to somebody who does not speak it.
    let app = App::start(0, answer).await;
    let url = format!("https://127.0.0.1:{}/", app.port());
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let root = certificate.cert.pem();
    let binding = build(&[("url", &url), ("MTLSRootCA", &root)]).await.unwrap();
    let refused = ask(&binding, "get", &[]).await.unwrap_err().error;
    assert_eq!(refused.kind, Kind::Unavailable, "{refused}");
}

#[tokio::test]
async fn metadata_that_cannot_be() {
    for (metadata, expected) in [
        (&[][..], "metadata \"url\" is no URL"),
        (&[("url", "ftp://x")], "must begin with http:// or https://"),
        (
            &[("url", "http://x"), ("MTLSRootCA", "/no/such/file")],
            "provided \"MTLSRootCA\" value is neither a valid file path",
        ),
        (
            &[
                ("url", "http://x"),
                ("mtlsRootCA", "-----BEGIN NOTHING-----\n-----END NOTHING-----"),
            ],
            "MTLSRootCA holds no certificate",
        ),
        (
            &[("url", "http://x"), ("MTLSRenegotiation", "Sometimes")],
            "invalid renegotiation value: Sometimes",
        ),
        (
            &[("url", "http://x"), ("maxResponseBodySize", "much")],
            "invalid value for maxResponseBodySize: ",
        ),
        (
            &[
                ("url", "http://x"),
                ("securityToken", "a\nb"),
                ("securityTokenHeader", "X"),
            ],
            "securityToken",
        ),
        (
            &[("url", "http://x"), ("responseTimeout", "soon")],
            "invalid duration \"soon\"",
        ),
    ] {
        let error = build(metadata).await.err().unwrap().to_string();
        assert!(error.contains(expected), "{metadata:?}: {error}");
    }
    let binding = build(&[("url", "http://127.0.0.1:1")]).await.unwrap();
    let bad = ask(&binding, "get", &[("X-Bad", "a\nb")])
        .await
        .unwrap_err()
        .error;
    assert_eq!(bad.kind, Kind::Invalid);
}
