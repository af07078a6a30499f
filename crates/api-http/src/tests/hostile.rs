//! Bytes that no well-behaved client sends: each is refused in its own words, none takes the door down or hangs.

use super::bench::Bench;
use crate::Config;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What the door may do with them.
enum Expect {
    /// This status, and this in the body.
    Answer(u16, &'static str),
    /// Nothing to say, and the connection is closed.
    Closed,
}

use Expect::{Answer, Closed};

#[tokio::test]
async fn refused_and_unharmed() {
    let bench = Bench::new(Config {
        body_limit: Some(1000),
        ..Config::default()
    })
    .await;
    let get =
        |target: &str| format!("GET {target} HTTP/1.1\r\nhost: d\r\nconnection: close\r\n\r\n").into_bytes();
    let post = |target: &str, headers: &str, body: &[u8]| {
        [
            format!("POST {target} HTTP/1.1\r\nhost: d\r\nconnection: close\r\n{headers}\r\n").as_bytes(),
            body,
        ]
        .concat()
    };
    let chunked = "transfer-encoding: chunked\r\n";
    let large = [&b"7d0\r\n"[..], &[b'x'; 2000], b"\r\n0\r\n\r\n"].concat();
    let long = |length: usize| format!("content-length: {length}\r\n");
    let many: Vec<u8> = (0..200)
        .flat_map(|number| format!("h{number}: 1\r\n").into_bytes())
        .collect();
    let wide: Vec<u8> = (0..80)
        .flat_map(|number| format!("h{number}: {}\r\n", "x".repeat(1024)).into_bytes())
        .collect();
    let nested = [
        r#"[{"key":"k","value":"#,
        &"[".repeat(450),
        &"]".repeat(450),
        "}]",
    ]
    .concat()
    .into_bytes();
    let rows: Vec<(&str, Vec<u8>, Expect)> = vec![
        (
            "no request at all",
            b"\x00\x01\x02\x03\r\n\r\n".to_vec(),
            Answer(400, ""),
        ),
        (
            "TLS on a plain port",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            Answer(400, ""),
        ),
        (
            "an old version",
            b"GET / HTTP/3.7\r\n\r\n".to_vec(),
            Answer(400, ""),
        ),
        (
            "a broken escape",
            get("/v1.0/state/s/%zz"),
            Answer(400, "invalid URL escape \"%zz\""),
        ),
        (
            "half an escape",
            get("/v1.0/state/s/a%2"),
            Answer(400, "invalid URL escape \"%2\""),
        ),
        (
            "a broken escape anywhere",
            get("/nothing/%"),
            Answer(400, "invalid URL escape"),
        ),
        (
            "bytes that are no text",
            get("/v1.0/state/s/%ff%fe"),
            Answer(400, "not valid UTF-8"),
        ),
        (
            "a zero byte in a key",
            get("/v1.0/state/s/a%00b"),
            Answer(204, ""),
        ),
        (
            "a line break in a method",
            get("/v1.0/invoke/shop/method/a%0d%0ab"),
            Answer(500, "ERR_DIRECT_INVOKE"),
        ),
        (
            "dots",
            get("/v1.0/state/../../../etc/passwd"),
            Answer(404, "ERR_DIRECT_INVOKE"),
        ),
        ("only slashes", get("/////"), Answer(404, "ERR_DIRECT_INVOKE")),
        (
            "a URL as target",
            get("http://other.example/v1.0/healthz"),
            Answer(204, ""),
        ),
        (
            "a header that is no text",
            get("/v1.0/metadata").replace_host(b"x: \xff\xfe\r\n"),
            Answer(200, "shop"),
        ),
        (
            "an app id that is no text",
            get("/x").replace_host(b"dapr-app-id: \xff\r\n"),
            Answer(500, "ERR_DIRECT_INVOKE"),
        ),
        (
            "a token that is no text",
            get("/v1.0/metadata").replace_host(b"authorization: Basic \xff\r\n"),
            Answer(200, ""),
        ),
        (
            "a header with a line break",
            get("/x").replace_host(b"a: b\nc d\r\n"),
            Answer(400, ""),
        ),
        ("too many headers", get("/x").replace_host(&many), Answer(431, "")),
        (
            "too much in headers",
            get("/x").replace_host(&wide),
            Answer(431, ""),
        ),
        (
            "one header without end",
            [&b"GET /x HTTP/1.1\r\nx: "[..], &[b'x'; 1 << 20]].concat(),
            Answer(431, ""),
        ),
        (
            "one line without end",
            [&b"GET /"[..], &[b'x'; 1 << 20]].concat(),
            Answer(431, ""),
        ),
        (
            "a chunk size that is none",
            post("/v1.0/state/s", chunked, b"zz\r\nabc\r\n0\r\n\r\n"),
            Answer(400, "ERR_MALFORMED_REQUEST"),
        ),
        (
            "a chunk that is cut off",
            post("/v1.0/state/s", chunked, b"ff\r\nabc"),
            Answer(400, "unexpected EOF"),
        ),
        (
            "a body that is cut off",
            post("/v1.0/state/s", &long(100), b"[{\"key\":"),
            Answer(400, "unexpected EOF"),
        ),
        (
            "a length that is none",
            post("/v1.0/state/s", "content-length: -1\r\n", b""),
            Answer(400, ""),
        ),
        (
            "two lengths",
            post(
                "/v1.0/state/s",
                "content-length: 1\r\ncontent-length: 2\r\n",
                b"xx",
            ),
            Answer(400, ""),
        ),
        (
            "length and chunks",
            post(
                "/v1.0/publish/p/t?metadata.rawPayload=true",
                &format!("content-length: 3\r\n{chunked}"),
                b"1\r\na\r\n0\r\n\r\n",
            ),
            Answer(204, ""),
        ),
        (
            "a body of the limit",
            post("/v1.0/publish/p/t", &long(1000), &[b'x'; 1000]),
            Answer(204, ""),
        ),
        (
            "a body above the limit",
            post("/v1.0/publish/p/t", &long(1001), &[b'x'; 1001]),
            Answer(500, "stream too large"),
        ),
        (
            "a stream above the limit",
            post("/v1.0/publish/p/t", chunked, &large),
            Answer(500, "stream too large"),
        ),
        (
            "a bulk above the limit",
            post("/v1.0/publish/bulk/p/t", chunked, &large),
            Answer(400, "stream too large"),
        ),
        (
            "state above the limit",
            post("/v1.0/state/s", chunked, &large),
            Answer(400, "stream too large"),
        ),
        (
            "keys above the limit",
            post("/v1.0/state/s/bulk", chunked, &large),
            Answer(400, "stream too large"),
        ),
        (
            "metadata above the limit",
            put_metadata(&large),
            Answer(400, "ERR_BODY_READ"),
        ),
        (
            "a call above the limit",
            post("/v1.0/invoke/shop/method/echo", &long(1001), &[b'x'; 1001]),
            Answer(500, "ERR_DIRECT_INVOKE"),
        ),
        (
            "nested JSON",
            post("/v1.0/state/s", &long(900), &[b'['; 900]),
            Answer(400, "ERR_MALFORMED_REQUEST"),
        ),
        (
            "JSON that is no text",
            post("/v1.0/state/s", &long(5), b"[\"\xff\"]"),
            Answer(400, "ERR_MALFORMED_REQUEST"),
        ),
        (
            "a nested value",
            post("/v1.0/state/s", &long(nested.len()), &nested),
            Answer(204, ""),
        ),
        (
            "an odd topic",
            post("/v1.0/publish/p/%00%0a%7f%22", &long(1), b"x"),
            Answer(204, ""),
        ),
        (
            "HTTP/1.0",
            b"GET /v1.0/healthz HTTP/1.0\r\n\r\n".to_vec(),
            Answer(204, ""),
        ),
        ("half a request", b"GET /v1.0/heal".to_vec(), Closed),
        (
            "half a header",
            b"GET /v1.0/healthz HTTP/1.1\r\nhost".to_vec(),
            Closed,
        ),
        (
            "half of the HTTP/2 preface",
            b"PRI * HTTP/2.0\r\n\r\nS".to_vec(),
            Answer(400, ""),
        ),
        (
            "HTTP/2 and then nonsense",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense".to_vec(),
            Closed,
        ),
        ("nothing", Vec::new(), Closed),
    ];
    for (what, bytes, expect) in rows {
        let answer = bench.raw_and_end(bytes).await;
        match (expect, answer) {
            (Answer(status, text), Some(answer)) => {
                assert_eq!(answer.status, status, "{what}: {answer:?}");
                assert!(answer.body.contains(text), "{what}: {answer:?}");
            }
            (Closed, None) => {}
            (Answer(status, _), None) => panic!("{what}: closed, but {status} was expected"),
            (Closed, Some(answer)) => panic!("{what}: {answer:?}"),
        }
        assert_eq!(
            bench.ask("GET /v1.0/healthz", &[], "").await.status,
            204,
            "after {what}"
        );
    }
    // A large answer to a client that sends on without end: the door has an answer ready, or closes.
    let endless = [post("/v1.0/state/s", chunked, &large), vec![b'x'; 1 << 20]].concat();
    bench.raw(endless).await;
    assert_eq!(bench.ask("GET /v1.0/healthz", &[], "").await.status, 204);
    assert!(!bench.logged().contains("panicked"), "{}", bench.logged());
}

/// What stops in the middle is given up after the time allowed; the connection goes with it.
#[tokio::test]
async fn bodies_that_stop() {
    let bench = Bench::new(Config {
        body_patience: Some(Duration::from_millis(100)),
        ..Config::default()
    })
    .await;
    let short = "content-length: 10\r\n";
    let chunked = "transfer-encoding: chunked\r\n";
    for (line, length, body, status) in [
        ("POST /v1.0/state/s", short, "[{", 400),
        ("POST /v1.0/state/s", chunked, "2\r\n[{\r\n", 400),
        ("POST /v1.0/state/s", chunked, "", 400),
        ("POST /v1.0/publish/p/t", short, "ab", 500),
        ("PUT /v1.0/metadata/k", short, "ab", 400),
    ] {
        let request = format!("{line} HTTP/1.1\r\nhost: d\r\n{length}\r\n{body}");
        let answer = bench.raw(request).await.unwrap();
        assert_eq!(answer.status, status, "{line}: {answer:?}");
        assert!(
            answer.body.contains("nothing came for 100ms"),
            "{line}: {answer:?}"
        );
    }
    assert_eq!(bench.ask("POST /v1.0/state/s", &[], "[]").await.status, 204);
}

/// Who says that nothing more will come gets all answers, and is let go then.
#[tokio::test]
async fn half_closed_connections() {
    let bench = Bench::new(Config::default()).await;
    let one = "GET /v1.0/healthz HTTP/1.1\r\nhost: d\r\n\r\n";
    for (what, requests) in [
        ("before anything", 0),
        ("after one", 1),
        ("after three at once", 3),
    ] {
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        stream.write_all(one.repeat(requests).as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answers = String::new();
        let reading = stream.read_to_string(&mut answers);
        tokio::time::timeout(Duration::from_secs(10), reading)
            .await
            .expect(what)
            .unwrap();
        assert_eq!(
            answers.matches("HTTP/1.1 204").count(),
            requests,
            "{what}: {answers}"
        );
    }
}

/// A length is only announced: memory is taken for what arrives, also where no limit is set.
#[tokio::test]
async fn promises_are_not_believed() {
    let bench = Bench::new(Config::default()).await;
    for (line, status, address) in [
        ("POST /v1.0/state/s", 400, bench.address),
        ("PUT /v1.0/metadata/k", 400, bench.address),
        ("PUT /v1.0/metadata/k", 400, bench.public),
        ("POST /v1.0/publish/p/t", 500, bench.address),
    ] {
        let head = format!(
            "{line} HTTP/1.1\r\nhost: d\r\ncontent-length: {}\r\n\r\n",
            1_u64 << 60
        );
        let answer = bench
            .raw_at(address, [head.as_bytes(), &[b' '; 200_000]].concat())
            .await;
        assert_eq!(answer.map(|answer| answer.status), Some(status), "{line}");
    }
}

fn put_metadata(chunks: &[u8]) -> Vec<u8> {
    [&b"PUT /v1.0/metadata/k HTTP/1.1\r\nhost: d\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"[..], chunks].concat()
}

trait ReplaceHost {
    /// Puts raw header lines where the host was.
    fn replace_host(self, lines: &[u8]) -> Vec<u8>;
}

impl ReplaceHost for Vec<u8> {
    fn replace_host(self, lines: &[u8]) -> Vec<u8> {
        let host = b"host: d\r\n";
        let at = self
            .windows(host.len())
            .position(|window| window == host)
            .unwrap();
        let (before, after) = self.split_at(at);
        [before, lines, after].concat()
    }
}
