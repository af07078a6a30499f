//! What each endpoint answers, and what it asks of the components.

use super::bench::Bench;
use crate::{Config, Shutdown};
use outrigger_component::middleware::{self, HttpMiddleware, Next, Pipeline};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

type Row<'r> = (&'r str, &'r [&'r str], &'r str, u16, &'r str, &'r [&'r str]);

/// Request line, headers, body; status, body (a prefix if it ends with `…`), journal of the fakes.
async fn check(bench: &Bench, rows: &[Row<'_>]) {
    for (line, headers, body, status, expected, journal) in rows {
        let answer = bench.ask(line, headers, body).await;
        let seen = bench.fake.journal();
        assert_eq!(answer.status, *status, "{line} {body}: {answer:?}");
        match expected.strip_suffix('…') {
            Some(prefix) => assert!(answer.body.starts_with(prefix), "{line} {body}: {answer:?}"),
            None => assert_eq!(answer.body, *expected, "{line} {body}"),
        }
        assert_eq!(seen, *journal, "{line} {body}");
        if answer.status == 204 {
            assert_eq!(answer.header("content-type"), None, "{line}");
        }
    }
}

#[tokio::test]
async fn bindings() {
    let bench = Bench::new(Config::default()).await;
    let none = "traceparent=00-00000000000000000000000000000000-0000000000000000-00";
    let nothing = format!("delete null {none}");
    let data = format!("create {{\"a\":1.0}} {none} x=1");
    let broken = format!("create \"broken\" {none}");
    let bag = format!("create 1 baggage=k=v,l=w {none}");
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let traced = format!("create 1 traceparent={trace}");
    check(
        &bench,
        &[
            ("POST /v1.0/bindings/b", &[], r#"{"operation":"delete"}"#, 204, "", &[&nothing]),
            (
                "PUT /v1.0/bindings/b",
                &[],
                r#"{"operation":"create","data":{ "a": 1.0 },"metadata":{"x":"1"}}"#,
                200,
                r#"{"a":1.0}"#,
                &[&data],
            ),
            (
                "POST /v1.0/bindings/b",
                &[],
                r#"{"operation":"create","data":"broken"}"#,
                500,
                r#"{"errorCode":"ERR_INVOKE_OUTPUT_BINDING","message":"error invoking output binding b: it is broken"}"#,
                &[&broken],
            ),
            (
                "POST /v1.0/bindings/b",
                &["baggage: k=v", "baggage: l=w"],
                r#"{"operation":"create","data":1}"#,
                200,
                "1",
                &[&bag],
            ),
            (
                "POST /v1.0/bindings/b",
                &[&format!("traceparent: {trace}")],
                r#"{"operation":"create","data":1,"metadata":{"traceparent":"mine"}}"#,
                200,
                "1",
                &[&traced],
            ),
            (
                "POST /v1.0/bindings/b",
                &[],
                r#"{"operation":"list"}"#,
                500,
                r#"{"errorCode":"ERR_INVOKE_OUTPUT_BINDING","message":"error invoking output binding b: binding b does not support operation list. supported operations:create delete"}"#,
                &[],
            ),
            (
                "POST /v1.0/bindings/b",
                &[],
                "[]",
                400,
                r#"{"errorCode":"ERR_MALFORMED_REQUEST","message":"failed deserializing HTTP body: json: cannot unmarshal array into Go value of type http.OutputBindingRequest"}"#,
                &[],
            ),
        ],
    )
    .await;
    for (body, status) in [
        (r#"{"operation":"create"}"#, 200),
        (r#"{"operation":"create","data":"broken"}"#, 500),
    ] {
        let answer = bench.ask("POST /v1.0/bindings/b", &[], body).await;
        assert_eq!(
            (answer.status, answer.header("metadata.statuscode")),
            (status, Some("404"))
        );
    }
}

#[tokio::test]
async fn state() {
    let bench = Bench::new(Config::default()).await;
    check(
        &bench,
        &[
            ("GET /v1.0/state/s/k", &[], "", 204, "", &["get shop||k Unspecified"]),
            (
                "GET /v1.0/state/s/a%2Fb+c?consistency=strong&metadata.x=1&y=2",
                &[],
                "",
                204,
                "",
                &["get shop||a/b c Strong x=1"],
            ),
            (
                "GET /v1.0/state/s/broken",
                &[],
                "",
                500,
                r#"{"errorCode":"ERR_STATE_GET","message":"fail to get broken from state store s: store is down"}"#,
                &["get shop||broken Unspecified"],
            ),
            ("GET /v1.0/state/s/a||b", &[], "", 400, r#"{"errorCode":"ERR_MALFORMED_REQUEST","message":"input key…"#, &[]),
            (
                "GET /v1.0/state/other/k",
                &[],
                "",
                400,
                r#"{"errorCode":"ERR_STATE_STORE_NOT_FOUND","message":"state store other is not found","details":[…"#,
                &[],
            ),
            ("POST /v1.0/state/s", &[], "[]", 204, "", &[]),
            ("POST /v1.0/state/s", &[], "null", 204, "", &[]),
            (
                "POST /v1.0/state/s?metadata.ttlInSeconds=5",
                &[],
                r#"[{"key":"k","value":{"b": 1.50, "a":"<é>"},"etag":"1","options":{"concurrency":"first-write"}}]"#,
                204,
                "",
                &[r#"set shop||k={"b":1.50,"a":"<é>"} Some("1") FirstWrite ttlInSeconds=5"#],
            ),
            ("PUT /v1.0/state/s", &[], r#"[{"key":"n"}] trailing"#, 204, "", &["set shop||n=null None Unspecified"]),
            ("POST /v1.0/state/s", &[], "", 400, r#"{"errorCode":"ERR_MALFORMED_REQUEST","message":"EOF"}"#, &[]),
            (
                "POST /v1.0/state/s",
                &[],
                "{}",
                400,
                r#"{"errorCode":"ERR_MALFORMED_REQUEST","message":"json: cannot unmarshal object into Go value of type []state.SetRequest"}"#,
                &[],
            ),
            (
                "POST /v1.0/state/s",
                &[],
                r#"[{"key":"a","value":1},{"ey":"b"}]"#,
                400,
                r#"{"errorCode":"ERR_MALFORMED_REQUEST","message":"\"key\" is a required field"}"#,
                &[],
            ),
            (
                "POST /v1.0/state/s",
                &[],
                r#"[{"key":"k","value":1,"etag":"9"}]"#,
                409,
                r#"{"errorCode":"ERR_STATE_SAVE","message":"failed saving state in state store s: possible etag mismatch…"#,
                &[r#"set shop||k=1 Some("9") Unspecified"#],
            ),
            (
                "POST /v1.0/state/s",
                &[],
                r#"[{"key":"k","options":{"concurrency":"both"}}]"#,
                500,
                r#"{"errorCode":"ERR_STATE_SAVE","message":"failed saving state in state store s: unrecognized concurrency model 'both'"}"#,
                &[],
            ),
            ("GET /v1.0/state/s/k", &[], "", 200, r#"{"b":1.50,"a":"<é>"}"#, &["get shop||k Unspecified"]),
            (
                "POST /v1.0/state/s/bulk?metadata.x=1",
                &[],
                r#"{"keys":["k","none","broken"],"metadata":{"x":"2","y":"3"}}"#,
                200,
                concat!(
                    r#"[{"key":"k","data":{"b":1.50,"a":"<é>"},"etag":"1","metadata":{"ttlExpireTime":"2030-01-01T00:00:00Z"}},"#,
                    r#"{"key":"none"},{"key":"broken","error":"store is down"}]"#
                ),
                &[
                    "get shop||k Unspecified x=1 y=3",
                    "get shop||none Unspecified x=1 y=3",
                    "get shop||broken Unspecified x=1 y=3",
                ],
            ),
            ("POST /v1.0/state/s/bulk", &[], "{}", 200, "[]", &[]),
            (
                "POST /v1.0/state/s/bulk",
                &[],
                "[]",
                400,
                r#"{"errorCode":"ERR_MALFORMED_REQUEST","message":"failed deserializing HTTP body: json: cannot unmarshal array into Go value of type http.BulkGetRequest"}"#,
                &[],
            ),
            ("DELETE /v1.0/state/s/k", &["if-match: 7"], "", 204, "", &[r#"delete shop||k Some("7")"#]),
            ("DELETE /v1.0/state/s/k?metadata.z=1", &[], "", 204, "", &["delete shop||k None z=1"]),
            (
                "POST /v1.0/state/s/transaction?metadata.q=1",
                &[],
                r#"{"operations":[{"operation":"upsert","request":{"key":"a","value":[1, 2]}},{"operation":"delete","request":{"key":"b"}}],"metadata":{"p":"2"}}"#,
                204,
                "",
                &["transact +shop||a=[1,2] -shop||b p=2 q=1"],
            ),
            ("POST /v1.0/state/s/transaction", &[], "{}", 204, "", &[]),
            (
                "POST /v1.0/state/s/transaction",
                &[],
                r#"{"operations":[{"operation":"move"}]}"#,
                400,
                r#"{"errorCode":"ERR_NOT_SUPPORTED_STATE_OPERATION","message":"operation type move not supported"}"#,
                &[],
            ),
            (
                "POST /v1.0/state/s/transaction",
                &[],
                r#"{"operations":[{"operation":"upsert","request":7}]}"#,
                400,
                r#"{"errorCode":"ERR_MALFORMED_REQUEST","message":"failed deserializing HTTP body: …"#,
                &[],
            ),
            (
                "POST /v1.0-alpha1/state/s/query",
                &[],
                "{}",
                500,
                r#"{"errorCode":"ERR_STATE_STORE_NOT_SUPPORTED","message":"state store does not support querying","details":…"#,
                &[],
            ),
        ],
    )
    .await;
    let answer = bench.ask("GET /v1.0/state/s/n", &[], "").await;
    assert_eq!(answer.header("etag"), Some("1"));
    assert_eq!(
        answer.header("metadata.ttlexpiretime"),
        Some("2030-01-01t00:00:00z")
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let counted = r#"dapr_error_code_total{app_id="shop",category="state",error_code="ERR_STATE_SAVE"} 2"#;
    assert!(bench.metrics().contains(counted), "{}", bench.metrics());
}

#[tokio::test]
async fn publishing() {
    let bench = Bench::new(Config::default()).await;
    check(
        &bench,
        &[
            (
                "POST /v1.0/publish/p/t?metadata.rawPayload=true&metadata.x=1",
                &[],
                "hello",
                204,
                "",
                &[r#"publish "t" hello rawPayload=true x=1"#],
            ),
            (
                "PUT /v1.0/publish/p/a%2Fb/c+d/%F0%9F%91%8B?metadata.rawPayload=true",
                &[],
                "",
                204,
                "",
                &[r#"publish "a/b/c d/👋"  rawPayload=true"#],
            ),
            (
                "POST /v1.0/publish/p/t?metadata.rawPayload=maybe",
                &[],
                "",
                400,
                r#"{"errorCode":"ERR_PUBSUB_REQUEST_METADATA","message":"failed deserializing metadata. Error: rawPayload value must be a valid boolean: actual is 'maybe'","details":…"#,
                &[],
            ),
            (
                "POST /v1.0/publish/other/t",
                &[],
                "",
                404,
                r#"{"errorCode":"ERR_PUBSUB_NOT_FOUND","message":"pubsub other is not found","details":[…"#,
                &[],
            ),
            (
                "POST /v1.0/publish/p/closed",
                &[],
                "",
                403,
                r#"{"errorCode":"ERR_PUBSUB_FORBIDDEN","message":"topic closed is not allowed for app id shop","details":…"#,
                &[],
            ),
            ("POST /v1.0/publish/p/", &[], "", 404, r#"{"errorCode":"ERR_DIRECT_INVOKE",…"#, &[]),
            (
                "POST /v1.0/publish/bulk/p/t",
                &[],
                r#"[{"entryId":"1","event":"a","contentType":"text/plain"},{"entryId":"2","event":{"b": 1},"contentType":"application/json"}]"#,
                204,
                "",
                &[r#"publish bulk "t" 1 2"#],
            ),
            (
                "POST /v1.0-alpha1/publish/bulk/p/t",
                &[],
                r#"[{"entryId":"good","event":"a","contentType":"text/plain"},{"entryId":"bad","event":"a","contentType":"text/plain"}]"#,
                500,
                r#"{"failedEntries":[{"entryId":"bad","error":"broker is full"}],"errorCode":"ERR_PUBSUB_PUBLISH_MESSAGE"}"#,
                &[r#"publish bulk "t" good bad"#],
            ),
            (
                "POST /v1.0/publish/bulk/p/t",
                &[],
                r#"{"entryID": "}"#,
                400,
                r#"{"errorCode":"ERR_PUBSUB_EVENTS_SER","message":"error when unmarshaling the request for topic t pubsub p: unexpected EOF","details":…"#,
                &[],
            ),
            (
                "POST /v1.0/publish/bulk/p/t",
                &[],
                r#"{"entryID": ""}"#,
                400,
                r#"{"errorCode":"ERR_PUBSUB_EVENTS_SER","message":"error when unmarshaling the request for topic t pubsub p: json: cannot unmarshal object into Go value of type []http.bulkPublishMessageEntry","details":…"#,
                &[],
            ),
            (
                "POST /v1.0/publish/bulk/p/t",
                &[],
                r#"[{"entryId":"1","event":1,"contentType":"text/plain"}]"#,
                400,
                r#"{"errorCode":"ERR_PUBSUB_EVENTS_SER","message":"error when marshalling cloud event envelope…"#,
                &[],
            ),
        ],
    )
    .await;
    let answer = bench
        .ask(
            "POST /v1.0/publish/p/t",
            &["content-type: application/json"],
            r#"{"a":1}"#,
        )
        .await;
    assert_eq!(answer.status, 204);
    let journal = bench.fake.journal();
    assert!(
        journal[0].contains(r#""data":{"a":1}"#) && journal[0].contains(r#""topic":"t""#),
        "{journal:?}"
    );
}

#[tokio::test]
async fn secrets_and_metadata_and_health() {
    let bench = Bench::new(Config::default()).await;
    check(
        &bench,
        &[
            ("GET /v1.0/secrets/v/x?metadata.m=1", &[], "", 200, r#"{"x":"hush"}"#, &["secret x m=1"]),
            ("GET /v1.0/secrets/v/none", &[], "", 204, "", &["secret none"]),
            ("GET /v1.0/secrets/v/bulk", &[], "", 200, r#"{"a":{"a":"hush"}}"#, &[]),
            (
                "GET /v1.0/secrets/v/broken",
                &[],
                "",
                500,
                r#"{"errorCode":"ERR_SECRET_GET","message":"failed getting secret with key broken from secret store v: sealed"}"#,
                &["secret broken"],
            ),
            ("GET /v1.0/secrets/other/x", &[], "", 401, r#"{"errorCode":"ERR_SECRET_STORE_NOT_FOUND",…"#, &[]),
            ("PUT /v1.0/metadata/a+b", &[], "some text", 204, "", &[]),
            (
                "GET /v1.0/metadata",
                &[],
                "",
                200,
                concat!(
                    r#"{"id":"shop","runtimeVersion":"1.18.3","components":["#,
                    r#"{"name":"s","type":"state.fake","version":"v1","capabilities":["ETAG","TRANSACTIONAL","ACTOR"]},"#,
                    r#"{"name":"p","type":"pubsub.fake","version":"v1","capabilities":["BULK_PUBSUB"]},"#,
                    r#"{"name":"v","type":"secretstores.fake","version":"v1"},"#,
                    r#"{"name":"c","type":"configuration.memory","version":"v1"},"#,
                    r#"{"name":"l","type":"lock.memory","version":"v1"},"#,
                    r#"{"name":"b","type":"bindings.fake","version":"v1","capabilities":["OUTPUT_BINDING"]}],"#,
                    r#""extended":{"a b":"some text","daprRuntimeVersion":"1.18.3"},"#,
                    r#""actorRuntime":{"runtimeStatus":"DISABLED","hostReady":false,"placement":"placement: disconnected"}}"#,
                ),
                &[],
            ),
            ("GET /v1.0/healthz", &[], "", 204, "", &[]),
            ("GET /v1.0/healthz/?appid=shop", &[], "", 204, "", &[]),
            ("GET /v1.0/healthz?appid=other", &[], "", 500, r#"{"errorCode":"ERR_HEALTH_APPID_NOT_MATCH",…"#, &[]),
            ("GET /v1.0/healthz/outbound", &[], "", 204, "", &[]),
            ("POST /v1.0/shutdown", &[], "", 204, "", &[]),
            ("POST /v1.0/shutdown", &["dapr-force-shutdown: TRUE"], "", 204, "", &[]),
            (
                "POST /v1.0/actors/t/1/method/m",
                &[],
                "",
                501,
                r#"{"errorCode":"ERR_API_UNIMPLEMENTED","message":"this API is currently not implemented: the actors API…"#,
                &[],
            ),
            ("POST /v1.0/bindings/c", &[], "{}", 500, r#"{"errorCode":"ERR_INVOKE_OUTPUT_BINDING",…"#, &[]),
        ],
    )
    .await;
    assert_eq!(
        *bench.shutdowns.lock().unwrap(),
        [Shutdown::Graceful, Shutdown::Force]
    );
    let part = bench.ready.part("app");
    check(
        &bench,
        &[
            (
                "GET /v1.0/healthz",
                &[],
                "",
                500,
                r#"{"errorCode":"ERR_HEALTH_NOT_READY","message":"dapr is not ready: [app]"}"#,
                &[],
            ),
            (
                "GET /v1.0/healthz/outbound",
                &[],
                "",
                500,
                r#"{"errorCode":"ERR_OUTBOUND_HEALTH_NOT_READY","message":"dapr outbound is not ready"}"#,
                &[],
            ),
        ],
    )
    .await;
    part.done();
    for (line, status) in [
        ("GET /v1.0/healthz", 204),
        ("GET /v1.0/healthz/outbound", 204),
        ("GET /v1.0/metadata", 200),
        ("PUT /v1.0/metadata/k", 204),
        ("POST /v1.0/metadata", 405),
        ("GET /v1.0/state/s/k", 404),
        ("POST /v1.0/state/s", 404),
        ("GET /v1.0/invoke/shop/method/echo", 404),
    ] {
        let answer = bench.ask_at(bench.public, line, &[], "").await;
        assert_eq!(answer.status, status, "{line} at the public port");
    }
}

#[tokio::test]
async fn invocation() {
    let bench = Bench::new(Config::default()).await;
    let down = r#"{"errorCode":"ERR_DIRECT_INVOKE","message":"failed to invoke, id: shop, err: …"#;
    let nobody = r#"{"errorCode":"ERR_DIRECT_INVOKE","message":"failed getting app id either from the URL path or the header dapr-app-id"}"#;
    check(
        &bench,
        &[
            (
                "GET /v1.0/invoke/shop/method/echo?a=1&b=%20",
                &[],
                "",
                200,
                "",
                &["GET echo?a=1&b=%20"],
            ),
            (
                "POST /v1.0//invoke//shop/method//echo",
                &[],
                "body",
                200,
                "body",
                &["POST /echo?"],
            ),
            (
                "PATCH //echo",
                &["dapr-app-id: shop"],
                "body",
                200,
                "body",
                &["PATCH echo?"],
            ),
            (
                "get /echo",
                &["authorization: Basic ZGFwci1hcHAtaWQ6c2hvcA=="],
                "",
                200,
                "",
                &["GET echo?"],
            ),
            (
                "POST /v1.0/invoke/shop.default/method/a%2F..%2Fecho",
                &[],
                "x",
                200,
                "x",
                &["POST echo?"],
            ),
            (
                "GET /v1.0/invoke/shop/method/418",
                &[],
                "",
                418,
                "as you wish",
                &["GET 418?"],
            ),
            (
                "GET /v1.0/invoke/shop/method/grpc",
                &[],
                "",
                404,
                r#"{"code":5,"message":"no such thing"}"#,
                &["GET grpc?"],
            ),
            (
                "GET /v1.0/invoke/shop/method/down",
                &[],
                "",
                500,
                down,
                &["GET down?"],
            ),
            ("GET /v1.0/invoke/shop/method/a%23b", &[], "", 500, down, &[]),
            ("GET /v1.0/invoke/shop/method", &[], "", 404, nobody, &[]),
            ("OPTIONS /v1.0/metadata", &[], "", 404, nobody, &[]),
            ("BREW /nothing", &[], "", 404, nobody, &[]),
        ],
    )
    .await;
    let hop_by_hop = [
        "keep-alive: timeout=5",
        "te: trailers",
        "upgrade: websocket",
        "http2-settings: AAMAAABk",
        "proxy-connection: keep-alive",
        "expect: 100-continue",
        "x-own: 1",
        "content-type: text/x",
    ];
    let answer = bench
        .ask("POST /v1.0/invoke/shop/method/echo", &hop_by_hop, "x")
        .await;
    assert_eq!(
        answer.header("x-names"),
        Some("content-length content-type x-own")
    );
    assert_eq!(answer.header("content-type"), Some("text/x"));
    assert_eq!(answer.header("keep-alive"), None);
    assert_eq!(answer.header("content-length"), Some("1"));

    let answer = bench
        .ask(
            "GET /v1.0/invoke/shop/method/echo",
            &["accept: text/event-stream"],
            "",
        )
        .await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));

    let answer = bench.ask("GET /v1.0/invoke/shop/method/503", &[], "").await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (503, Some("application/json"))
    );
    // 418 and 503 from the app, two refusals, three times nobody.
    let counted = r#"dapr_error_code_total{app_id="shop",category="service-invocation",error_code="ERR_DIRECT_INVOKE"} 7"#;
    assert!(bench.metrics().contains(counted), "{}", bench.metrics());
}

/// The app's echo of the first piece is read before the second is sent: nothing on the way collects the body.
#[tokio::test]
async fn bodies_stream_in_both_directions() {
    for limit in [None, Some(1000)] {
        let bench = Bench::new(Config {
            body_limit: limit,
            ..Config::default()
        })
        .await;
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        let head =
            b"POST /v1.0/invoke/shop/method/echo HTTP/1.1\r\nhost: d\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let mut answer = Vec::new();
        for piece in ["first", "second"] {
            let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
            stream.write_all(chunk.as_bytes()).await.unwrap();
            while !answer.ends_with(chunk.as_bytes()) {
                assert_ne!(
                    stream.read_buf(&mut answer).await.unwrap(),
                    0,
                    "{}",
                    String::from_utf8_lossy(&answer)
                );
            }
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
        while !answer.ends_with(b"\r\n0\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
        }
        assert!(
            answer.starts_with(b"HTTP/1.1 200 OK\r\n"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
}

/// Sends `/alias` elsewhere, answers `/own` itself, and marks every answer.
struct Detour;

impl outrigger_component::Component for Detour {}

#[async_trait::async_trait]
impl HttpMiddleware for Detour {
    async fn handle(&self, mut request: middleware::Request, next: Next<'_>) -> middleware::Response {
        let mut response = match request.uri().path() {
            "/own" => middleware::answer(http::StatusCode::FORBIDDEN, "mine"),
            "/alias" => {
                assert!(request.extensions().get::<std::net::SocketAddr>().is_some());
                *request.uri_mut() = "/v1.0/state/s/k?metadata.x=1".parse().unwrap();
                next.serve(request).await
            }
            _ => next.serve(request).await,
        };
        let mark = http::HeaderValue::from_static("1");
        response.headers_mut().insert("x-detour", mark);
        response
    }
}

#[tokio::test]
async fn a_pipeline_stands_before_the_routes_and_behind_the_token() {
    let config = Config {
        api_token: "secret".to_owned(),
        pipeline: Pipeline::new(vec![std::sync::Arc::new(Detour)]),
        ..Config::default()
    };
    let bench = Bench::new(config).await;
    for (line, token, status, body, marked, journal) in [
        (
            "GET /alias",
            "secret",
            204,
            "",
            true,
            &["get shop||k Unspecified x=1"][..],
        ),
        ("GET /own", "secret", 403, "mine", true, &[]),
        ("GET /own", "wrong", 401, "invalid api token\n", false, &[]),
        (
            "GET /v1.0/state/s/l",
            "secret",
            204,
            "",
            true,
            &["get shop||l Unspecified"],
        ),
    ] {
        let token = format!("dapr-api-token: {token}");
        let answer = bench.ask(line, &[&token], "").await;
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{line}");
        assert_eq!(answer.header("x-detour").is_some(), marked, "{line}");
        assert_eq!(bench.fake.journal(), journal, "{line}");
    }
}
