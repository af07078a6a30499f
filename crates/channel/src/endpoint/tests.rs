//! Services without a sidecar, called over real sockets.

use super::{Config, Endpoints};
use crate::body::Body;
use crate::call::{Call, Status};
use crate::testing::{Certificate, Speaks, serve, tasks};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use outrigger_daemon::tls::{self, Pem, Trust};

/// Answers with what it was asked; `/moved` leads to `/m?from=moved`, `/loop` to itself.
async fn answer(request: Request<Incoming>) -> Response<Body> {
    let location = match request.uri().path() {
        "/moved" => Some("/m?from=moved"),
        "/loop" => Some("/loop"),
        _ => None,
    };
    if let Some(location) = location {
        return Response::builder()
            .status(302)
            .header("location", location)
            .body(Body::Empty)
            .unwrap();
    }
    let mut fields: Vec<_> = request
        .headers()
        .iter()
        .filter(|(name, _)| *name != "host")
        .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
        .collect();
    fields.sort();
    let target = request.uri().path_and_query().unwrap().to_string();
    let (head, body) = request.into_parts();
    let body = Body::from(body).collect(100).await.unwrap();
    let seen = format!(
        "{} {target} [{}] {}",
        head.method,
        fields.join(" "),
        String::from_utf8_lossy(&body)
    );
    Response::builder()
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("x-end", "1")
        .body(Body::from(Bytes::from(seen)))
        .unwrap()
}

fn call(verb: &str, method: &str, query: &str, headers: &[(&'static str, &'static str)]) -> Call {
    let mut fields = HeaderMap::new();
    for (name, value) in headers {
        fields.insert(*name, value.parse().unwrap());
    }
    Call {
        verb: verb.parse().unwrap(),
        method: method.to_owned(),
        query: query.to_owned(),
        headers: fields,
        body: if verb == "POST" {
            Body::from(Bytes::from_static(b"body"))
        } else {
            Body::Empty
        },
        ..Call::default()
    }
}

async fn ask(endpoints: &Endpoints, target: &str, call: Call) -> Result<String, String> {
    let reply = endpoints
        .invoke(target, call)
        .await
        .map_err(|error| error.to_string())?;
    let Status::Http(status) = reply.status else {
        panic!("HTTP services answer with HTTP");
    };
    let hop = reply.headers.contains_key("x-hop");
    assert!(!hop, "fields of the connection stay there");
    let body = reply.body.collect(1000).await.unwrap();
    Ok(format!("{status} {}", String::from_utf8_lossy(&body)))
}

#[tokio::test]
async fn what_the_service_sees() {
    let tasks = tasks();
    let server = serve(tasks.spawner(), Speaks::Http1, None, answer).await;
    let port = server.port;
    let config = |path: &str| Config {
        base_url: format!("http://me:p%40ss@localhost:{port}{path}"),
        headers: vec![("x-key".to_owned(), "ours".to_owned())],
        tls: None,
    };
    let endpoints = Endpoints::new(
        [
            ("root".to_owned(), Ok(config(""))),
            ("below".to_owned(), Ok(config("/api/"))),
        ],
        &tasks.spawner(),
    );
    let url = format!("http://localhost:{port}");
    let basic = "authorization=Basic bWU6cEBzcw==";
    for (target, call, expected) in [
        (
            "root",
            call("GET", "a b/c", "q=1", &[("x-key", "theirs"), ("x-mine", "1")]),
            format!("200 GET /a%20b/c?q=1 [{basic} x-key=ours x-mine=1] "),
        ),
        (
            "below",
            call("POST", "m", "", &[("authorization", "mine")]),
            "200 POST /api/m [authorization=mine content-length=4 x-key=ours] body".to_owned(),
        ),
        (
            "below",
            call("GET", "", "", &[]),
            format!("200 GET /api [{basic} x-key=ours] "),
        ),
        (
            "root",
            call("GET", "", "", &[]),
            format!("200 GET / [{basic} x-key=ours] "),
        ),
        // Resources follow where they are led, URLs leave it to the caller.
        (
            "root",
            call("POST", "moved", "", &[("x-mine", "1")]),
            format!("200 GET /m?from=moved [{basic} x-key=ours x-mine=1] "),
        ),
        (&url, call("GET", "moved", "", &[]), "302 ".to_owned()),
        (
            &url,
            call("GET", "m", "", &[("dapr-caller-app-id", "x"), ("x-mine", "1")]),
            "200 GET /m [x-mine=1] ".to_owned(),
        ),
    ] {
        let seen = ask(&endpoints, target, call).await;
        assert_eq!(seen, Ok(expected), "{target}");
    }
    let error = ask(&endpoints, "root", call("GET", "loop", "", &[]))
        .await
        .unwrap_err();
    assert!(error.ends_with("stopped after 10 redirects"), "{error}");
}

#[tokio::test]
async fn tls_as_the_resource_says() {
    let tasks = tasks();
    let (mine, other) = (Certificate::new(), Certificate::new());
    let server = serve(tasks.spawner(), Speaks::Http1, Some(&mine), answer).await;
    let named = [("good", &mine), ("bad", &other)].map(|(name, certificate)| {
        let settings = tls::Client {
            trust: Trust::Only(Pem {
                field: "clientTLS.rootCA",
                text: &certificate.pem,
            }),
            ..tls::Client::default()
        };
        let config = Config {
            base_url: format!("https://localhost:{}", server.port),
            headers: Vec::new(),
            tls: Some(tls::client(&settings).unwrap()),
        };
        (name.to_owned(), Ok(config))
    });
    let endpoints = Endpoints::new(named, &tasks.spawner());
    assert_eq!(
        ask(&endpoints, "good", call("GET", "m", "", &[])).await,
        Ok("200 GET /m [] ".to_owned())
    );
    let expected = format!(
        "GET \"https://localhost:{}/m\": tls: failed to verify certificate: x509: ",
        server.port
    );
    let error = ask(&endpoints, "bad", call("GET", "m", "q=secret", &[]))
        .await
        .unwrap_err();
    assert!(error.starts_with(&expected), "{error}");
}

#[tokio::test]
async fn what_cannot_be_used_is_named() {
    let tasks = tasks();
    let config = |url: &str, header: &str| Config {
        base_url: url.to_owned(),
        headers: vec![(header.to_owned(), "v".to_owned())],
        tls: None,
    };
    let endpoints = Endpoints::new(
        [
            ("ftp".to_owned(), Ok(config("ftp://h", "a"))),
            ("bare".to_owned(), Ok(config("h:80", "a"))),
            ("header".to_owned(), Ok(config("http://h", "a b"))),
            ("sealed".to_owned(), Err("it is sealed".to_owned())),
        ],
        &tasks.spawner(),
    );
    let broken: Vec<_> = endpoints.broken().collect();
    assert_eq!(
        broken,
        [
            (
                "bare",
                "baseUrl \"h:80\" is not an http:// or https:// URL with a host"
            ),
            (
                "ftp",
                "baseUrl \"ftp://h\" is not an http:// or https:// URL with a host"
            ),
            (
                "header",
                "header \"a b\" has a name or a value that cannot be an HTTP header"
            ),
            ("sealed", "it is sealed"),
        ]
    );
    let error = ask(&endpoints, "sealed", call("GET", "m", "", &[]))
        .await
        .unwrap_err();
    assert_eq!(error, "HTTPEndpoint \"sealed\" cannot be used: it is sealed");
    assert!(endpoints.has("sealed") && endpoints.has("https://h") && !endpoints.has("other"));
}
