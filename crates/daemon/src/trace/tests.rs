use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use outrigger_proto::opentelemetry::collector::trace::v1::ExportTraceServiceRequest;

use super::baggage::Baggage;
use super::export::{self, Otlp, Protocol};
use super::{Context, Kind, Sampler, Settings, Span, Tracer};
use crate::drain;
use crate::drain::serve::{self, Accept, Listener};
use crate::tasks::{OnExit, Tasks};
use crate::testing;
use crate::tls::tests::Pki;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn context(flags: &str) -> Context {
    Context::from_headers(&format!("00-{TRACE}-{SPAN}-{flags}"), None).unwrap()
}

#[test]
fn traceparent() {
    let good = [
        (format!("00-{TRACE}-{SPAN}-01"), "01"),
        (format!("00-{TRACE}-{SPAN}-00"), "00"),
        (format!("01-{TRACE}-{SPAN}-01"), "01"),
        (format!("fe-{TRACE}-{SPAN}-01-what-else"), "01"),
        (format!("FE-{TRACE}-{SPAN}-0B"), "0b"),
    ];
    for (text, flags) in good {
        let context = Context::from_headers(&text, None).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(
            context.traceparent().as_str(),
            format!("00-{TRACE}-{SPAN}-{flags}"),
            "{text}"
        );
        assert_eq!(Context::from_binary(&context.binary()).unwrap(), context);
    }
    let zero = "0".repeat(32);
    let upper = TRACE.to_uppercase();
    let bad = [
        String::new(),
        "00".to_owned(),
        format!("ff-{TRACE}-{SPAN}-01"),
        format!("0-{TRACE}-{SPAN}-01"),
        format!("00-{TRACE}-{SPAN}"),
        format!("00-{TRACE}-{SPAN}-1"),
        format!("00-{TRACE}-{SPAN}-01-"),
        format!("00-{TRACE}-{SPAN}-zz"),
        format!("00-{zero}-{SPAN}-01"),
        format!("00-{TRACE}-0000000000000000-01"),
        format!("00-{upper}-{SPAN}-01"),
        format!("00-+{}-{SPAN}-01", &TRACE[1..]),
        format!("00-{}-{SPAN}-01", &TRACE[1..]),
        format!("00-{TRACE}-{SPAN}-é1"),
    ];
    for text in bad {
        assert_eq!(Context::from_headers(&text, None), None, "{text}");
    }
}

#[test]
fn tracestate() {
    let long = format!("k={}", "v".repeat(256));
    let overlong = format!("{long},l={}", "v".repeat(255));
    let many: Vec<String> = (0..33).map(|n| format!("k{n}=v")).collect();
    let rows: [(&str, Option<&str>); 13] = [
        ("test=value", Some("test=value")),
        (" a=1 ,\tb=2,", Some("a=1,b=2")),
        ("tenant@vendor=x", Some("tenant@vendor=x")),
        ("0x/*-_=with space", Some("0x/*-_=with space")),
        (&long, Some(&long)),
        (&overlong, None),
        ("", None),
        ("novalue", None),
        ("k=", None),
        ("K=v", None),
        ("a=1,a=2", None),
        ("a=b=c", None),
        ("a@2b=1", None),
    ];
    for (text, expect) in rows {
        let context = Context::from_headers(&format!("00-{TRACE}-{SPAN}-01"), Some(text)).unwrap();
        assert_eq!(context.tracestate(), expect, "{text}");
    }
    for (count, kept) in [(32, true), (33, false)] {
        let context =
            Context::from_headers(&format!("00-{TRACE}-{SPAN}-01"), Some(&many[..count].join(","))).unwrap();
        assert_eq!(context.tracestate().is_some(), kept, "{count}");
    }
}

#[test]
fn binary() {
    let full = context("01").binary();
    assert_eq!(full[..2], [0, 0]);
    assert_eq!((full[18], full[27], full[28]), (1, 2, 1));
    let rows: [(&[u8], bool); 7] = [
        (&full, true),
        (&full[..27], true),
        (&full[..18], false),
        (&[], false),
        (&[1; 29], false),
        (&[0; 29], false),
        (&full[..26], false),
    ];
    for (bytes, valid) in rows {
        assert_eq!(Context::from_binary(bytes).is_some(), valid, "{bytes:?}");
    }
    assert!(!Context::from_binary(&full[..27]).unwrap().sampled());
}

#[test]
fn baggage() {
    let good = [
        ("", ""),
        ("key1=value1,key2=value2", "key1=value1,key2=value2"),
        (" a = 1 ; p = x ;q,b=", "a=1;p=x;q,b="),
        ("k=v%20w", "k=v%20w"),
        ("k=a=b", "k=a=b"),
        ("a=1,b=2,a=3", "a=3,b=2"),
        ("k=%41%25", "k=A%25"),
        ("k=%FF", "k=%EF%BF%BD"),
    ];
    for (text, expect) in good {
        assert_eq!(Baggage::parse(text).unwrap().to_string(), expect, "{text}");
    }
    let huge = format!("k={}", "v".repeat(8192));
    let many: Vec<String> = (0..65).map(|n| format!("k{n}=v")).collect();
    let bad = [
        (
            "invalid-baggage",
            "invalid baggage list-member: \"invalid-baggage\"",
        ),
        ("=v", "invalid key: \"\""),
        ("ke y=v", "invalid key: \"ke y\""),
        ("k=\"v\"", "invalid value: \"\\\"v\\\"\""),
        ("k=%zz", "invalid value: invalid URL escape \"%zz\""),
        ("k=v;p p", "invalid baggage list-member property: \"p p\""),
        (
            "a,b=1,c",
            "invalid baggage list-member: \"a\"\ninvalid baggage list-member: \"c\"",
        ),
        (&huge, "baggage-string too large: 8194"),
        (&many.join(","), "too many list-members in baggage-string"),
    ];
    for (text, expect) in bad {
        assert_eq!(Baggage::parse(text).unwrap_err().to_string(), expect, "{text}");
    }
    let seven = Baggage::parse("a,b,c,d,e,f,g").unwrap_err().to_string();
    assert!(seven.ends_with("\"e\"\nand 2 more invalid member(s)"), "{seven}");
}

#[test]
fn sampling() {
    let tail = "remoteParentSampled:AlwaysOnSampler,remoteParentNotSampled:AlwaysOffSampler,\
                localParentSampled:AlwaysOnSampler,localParentNotSampled:AlwaysOffSampler}";
    let rows = [
        (Some("1"), "AlwaysOnSampler", true, true),
        (Some("2"), "AlwaysOnSampler", true, true),
        (Some("0"), "TraceIDRatioBased{0}", false, false),
        (Some("-1"), "TraceIDRatioBased{0}", false, false),
        (Some("0.5"), "TraceIDRatioBased{0.5}", true, false),
        (Some("nonsense"), "TraceIDRatioBased{0.0001}", true, false),
        (None, "TraceIDRatioBased{0.0001}", true, false),
    ];
    for (rate, root, low, high) in rows {
        let sampler = Sampler::parse(rate);
        assert_eq!(sampler.to_string(), format!("ParentBased{{root:{root},{tail}"));
        assert_eq!(sampler.samples(1 << 64, None), low, "{rate:?}");
        assert_eq!(sampler.samples(u128::from(u64::MAX), None), high, "{rate:?}");
        assert!(sampler.samples(1, Some(&context("01"))), "the parent decides");
        assert!(!sampler.samples(1, Some(&context("00"))), "the parent decides");
    }
}

fn settings(rate: Option<&str>, exporters: Vec<export::Settings>) -> Settings {
    Settings {
        sampling_rate: rate.map(str::to_owned),
        service: "myapp".to_owned(),
        resource: vec![("team".to_owned(), "blue".to_owned())],
        exporters,
    }
}

#[test]
fn spans_inherit_and_propagate() {
    let (log, _) = testing::log();
    let parent = Context::from_headers(&format!("00-{TRACE}-{SPAN}-03"), Some("a=1")).unwrap();

    let off = Tracer::new(&settings(None, Vec::new()), &log).unwrap().0;
    assert!(off.start("x", Kind::Server, None).context().is_none());
    assert_eq!(
        off.start("x", Kind::Server, Some(&parent)).context(),
        Some(&parent)
    );
    assert!(!off.enabled() && Span::none().context().is_none());

    // A rate without an exporter: contexts are made, nothing is recorded.
    let (tracer, pump) = Tracer::new(&settings(Some("1"), Vec::new()), &log).unwrap();
    assert!(pump.is_none() && tracer.enabled());
    let root = tracer.start("x", Kind::Server, None);
    assert!(root.context().unwrap().sampled() && !root.is_recording());
    let child = tracer.start("y", Kind::Client, Some(&parent));
    let context = child.context().unwrap();
    assert_eq!(
        (context.trace_id(), context.flags(), context.tracestate()),
        (parent.trace_id(), 3, Some("a=1"))
    );
    assert_ne!(context.span_id(), parent.span_id());
    let unsampled = tracer.start("z", Kind::Client, Some(&super::tests::context("00")));
    assert!(!unsampled.context().unwrap().sampled());
    assert!(
        !Tracer::new(&settings(Some("0"), Vec::new()), &log)
            .unwrap()
            .0
            .enabled()
    );
}

#[test]
fn unusable_endpoints_are_refused_at_start() {
    let (log, _) = testing::log();
    let otlp = |endpoint: &str, secure, header: &str| {
        export::Settings::Otlp(Otlp {
            protocol: Protocol::Grpc,
            endpoint: endpoint.to_owned(),
            secure,
            headers: vec![(header.to_owned(), "secret-value".to_owned())],
            timeout: Duration::from_secs(1),
            authorities: Some("secret-value".to_owned()),
            identity: None,
        })
    };
    let rows = [
        (
            otlp("collector:4317", true, "k"),
            "TLS for tracing endpoint \"https://collector:4317/\": the collector's authority holds no certificate",
        ),
        (
            otlp("https://collector:4317", false, "k"),
            "TLS for tracing endpoint \"https://collector:4317/\": the collector's authority holds no certificate",
        ),
        (
            otlp("ftp://collector", false, "k"),
            "tracing endpoint \"ftp://collector\" is no URL or host:port",
        ),
        (
            otlp("not an endpoint", false, "k"),
            "tracing endpoint \"not an endpoint\" is no URL or host:port",
        ),
        (
            otlp("collector:4317", false, "k k"),
            "tracing header \"k k\" is not a valid HTTP header",
        ),
        (
            export::Settings::Zipkin {
                endpoint: "ftp://me:secret-value@zipkin/api/v2/spans?key=secret-value".to_owned(),
            },
            "tracing endpoint \"ftp://zipkin/api/v2/spans\" is no URL or host:port",
        ),
    ];
    for (exporter, expect) in rows {
        assert!(!format!("{exporter:?}").contains("secret-value"));
        let error = Tracer::new(&settings(None, vec![exporter]), &log)
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.starts_with(expect) && !error.contains("secret-value"),
            "{error}"
        );
    }
}

/// One HTTP/1 request of an exporter: its head in lower case, and its body.
async fn request(listener: &TcpListener, answer: &str) -> (String, Vec<u8>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.unwrap();
        assert_ne!(read, 0);
        bytes.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        let Some(end) = text.find("\r\n\r\n") else {
            continue;
        };
        let length: usize = text
            .split("content-length: ")
            .nth(1)
            .unwrap()
            .split("\r\n")
            .next()
            .unwrap()
            .parse()
            .unwrap();
        if bytes.len() >= end + 4 + length {
            stream.write_all(answer.as_bytes()).await.unwrap();
            return (text[..end].to_owned(), bytes[end + 4..].to_vec());
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const BUSY: &str = "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Runs a tracer with one exporter, makes two spans, and drains.
struct Exporting {
    tasks: Tasks,
    trigger: drain::Trigger,
    lines: testing::Captured,
    parent: Context,
}

impl Exporting {
    fn start(exporter: export::Settings) -> Self {
        let (log, lines) = testing::log();
        let (trigger, watch) = drain::channel();
        let tasks = Tasks::new(&log, drain::channel().0);
        let (tracer, pump) = Tracer::new(&settings(None, vec![exporter]), &log).unwrap();
        tasks.spawn("trace", OnExit::Log, pump.unwrap().run(watch));
        let parent = Context::from_headers(&format!("00-{TRACE}-{SPAN}-01"), Some("a=1")).unwrap();
        let mut client = tracer.start("CallLocal/app/Method", Kind::Client, Some(&parent));
        client.text("net.peer.name", "other");
        client.text("empty", "");
        client.set("dapr.status_code", 500_u16);
        client.set("dapr.status_code", 404_u16);
        client.set("ok", true);
        client.rename("/v1.0/Invoke");
        client.fail("Code(404): Not Found");
        let mut server = tracer.start("inner", Kind::Server, client.context());
        server.succeed();
        drop(client);
        drop(server);
        // Not sampled: not exported.
        drop(tracer.start("quiet", Kind::Internal, Some(&context("00"))));
        Self {
            tasks,
            trigger,
            lines,
            parent,
        }
    }

    async fn finish(self) -> String {
        self.trigger.fire();
        self.tasks.join(Duration::from_secs(60)).await.unwrap();
        self.lines.text()
    }
}

#[tokio::test]
async fn zipkin() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/api/v2/spans", listener.local_addr().unwrap());
    let exporting = Exporting::start(export::Settings::Zipkin { endpoint });
    let (head, body) = request(&listener, OK).await;
    assert!(
        head.starts_with("post /api/v2/spans http/1.1") && head.contains("content-type: application/json"),
        "{head}"
    );
    let spans: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let [client, server] = spans.as_array().unwrap().as_slice() else {
        panic!("{spans}")
    };
    assert_eq!(client["traceId"], TRACE);
    assert_eq!(client["parentId"], SPAN);
    assert_eq!(client["name"], "/v1.0/invoke");
    assert_eq!(client["kind"], "CLIENT");
    assert_eq!(client["localEndpoint"]["serviceName"], "myapp");
    assert_eq!(client["remoteEndpoint"]["serviceName"], "other");
    let tags = &client["tags"];
    assert_eq!(
        [
            &tags["dapr.status_code"],
            &tags["ok"],
            &tags["team"],
            &tags["otel.status_code"],
            &tags["error"]
        ],
        ["404", "true", "blue", "ERROR", "Code(404): Not Found"]
    );
    assert!(tags.get("empty").is_none());
    assert!(client["duration"].as_u64().unwrap() >= 1);
    assert!(client["timestamp"].as_u64().unwrap() > 1_600_000_000_000_000);
    assert_eq!(server["parentId"], client["id"]);
    assert_eq!(server["tags"]["otel.status_code"], "OK");
    assert_eq!(exporting.finish().await, "");
}

#[tokio::test]
async fn otlp_over_http_retries_and_reads_back_with_the_generated_types() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let exporting = Exporting::start(export::Settings::Otlp(Otlp {
        secure: false,
        ..otlp(Protocol::Http, listener.local_addr().unwrap().to_string())
    }));
    let (_, first) = request(&listener, BUSY).await;
    let (head, body) = request(&listener, OK).await;
    assert_eq!(first, body);
    assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
    assert!(
        head.contains("content-type: application/x-protobuf") && head.contains("x-api-key: k"),
        "{head}"
    );

    let message = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
    // Nothing is lost or misplaced: the generated types know every byte.
    assert_eq!(message.encoded_len(), body.len());
    let [resource_spans] = message.resource_spans.as_slice() else {
        panic!("{message:?}")
    };
    let resource = format!("{:?}", resource_spans.resource);
    assert!(
        resource.contains("service.name") && resource.contains("myapp") && resource.contains("blue"),
        "{resource}"
    );
    let [scope_spans] = resource_spans.scope_spans.as_slice() else {
        panic!("{message:?}")
    };
    assert_eq!(scope_spans.scope.as_ref().unwrap().name, "dapr-diagnostics");
    let [client, server] = scope_spans.spans.as_slice() else {
        panic!("{message:?}")
    };
    assert_eq!(client.trace_id[..], exporting.parent.trace_id().to_be_bytes());
    assert_eq!(
        client.parent_span_id[..],
        exporting.parent.span_id().to_be_bytes()
    );
    assert_eq!(
        (client.name.as_str(), client.kind, client.flags),
        ("/v1.0/Invoke", 3, 1)
    );
    assert_eq!(client.trace_state, "a=1");
    assert!(client.start_time_unix_nano > 0 && client.end_time_unix_nano >= client.start_time_unix_nano);
    let attributes = format!("{:?}", client.attributes);
    assert!(
        attributes.contains("IntValue(404)") && attributes.contains("BoolValue(true)"),
        "{attributes}"
    );
    let status = client.status.as_ref().unwrap();
    assert_eq!(
        (status.code, status.message.as_str()),
        (2, "Code(404): Not Found")
    );
    assert_eq!((server.kind, server.status.as_ref().unwrap().code), (2, 1));
    assert_eq!(server.parent_span_id, client.span_id);
    assert_eq!(exporting.finish().await, "");
}

/// A collector that answers `200`, with a gRPC status behind the body, and keeps what it was sent.
struct Collector {
    address: std::net::SocketAddr,
    seen: Arc<Mutex<Vec<(http::request::Parts, Bytes)>>>,
    trigger: drain::Trigger,
    tasks: Tasks,
}

impl Collector {
    /// `layer` makes the server's connections of a plain listener.
    async fn start<A: Accept>(
        status: &'static str,
        protocol: serve::Protocol,
        layer: impl FnOnce(Listener) -> A,
    ) -> Self {
        let (log, _) = testing::log();
        let (trigger, watch) = drain::channel();
        let tasks = Tasks::new(&log, drain::channel().0);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let service = {
            let seen = Arc::clone(&seen);
            move |_: &A::Io| {
                let seen = Arc::clone(&seen);
                service_fn(move |request: Request<Incoming>| {
                    let seen = Arc::clone(&seen);
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        seen.lock().unwrap().push((head, body));
                        let mut trailers = HeaderMap::new();
                        trailers.insert("grpc-status", HeaderValue::from_static(status));
                        trailers.insert("grpc-message", HeaderValue::from_static("bad"));
                        let body = Full::new(Bytes::from_static(&[0; 5]))
                            .with_trailers(async move { Some(Ok(trailers)) });
                        Ok::<_, Infallible>(Response::new(body))
                    }
                })
            }
        };
        let spawner = tasks.spawner();
        let options = serve::Options {
            protocol,
            ..Default::default()
        };
        let listener = layer(Listener::from(listener));
        tasks.spawn("collector", OnExit::Log, async move {
            serve::serve(listener, service, watch, options, &spawner, &log).await;
        });
        Self {
            address,
            seen,
            trigger,
            tasks,
        }
    }

    /// What it was sent.
    async fn finish(self) -> Vec<(http::request::Parts, Bytes)> {
        self.trigger.fire();
        self.tasks.join(Duration::from_secs(60)).await.unwrap();
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

fn otlp(protocol: Protocol, endpoint: String) -> Otlp {
    Otlp {
        protocol,
        endpoint,
        secure: true,
        headers: vec![("X-Api-Key".to_owned(), "k".to_owned())],
        timeout: Duration::from_secs(10),
        authorities: None,
        identity: None,
    }
}

#[tokio::test]
async fn otlp_over_grpc() {
    for (status, warning) in [("0", ""), ("3", "answered gRPC status 3: bad\" app_id")] {
        let collector = Collector::start(status, serve::Protocol::Http2, |listener| listener).await;
        let endpoint = format!("http://{}", collector.address);
        let exporting = Exporting::start(export::Settings::Otlp(otlp(Protocol::Grpc, endpoint)));
        let lines = exporting.finish().await;
        assert!(
            lines.contains(warning.split('"').next().unwrap()) && lines.is_empty() == warning.is_empty(),
            "{lines}"
        );
        let seen = collector.finish().await;
        let [(head, body)] = seen.as_slice() else {
            panic!("{seen:?}")
        };
        assert_eq!(
            head.uri.path(),
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
        );
        assert_eq!(
            (
                &head.headers["content-type"],
                &head.headers["te"],
                &head.headers["x-api-key"]
            ),
            (
                &HeaderValue::from_static("application/grpc"),
                &HeaderValue::from_static("trailers"),
                &HeaderValue::from_static("k"),
            )
        );
        assert_eq!(
            u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize,
            body.len() - 5
        );
        let message = ExportTraceServiceRequest::decode(&body[5..]).unwrap();
        assert_eq!(message.resource_spans[0].scope_spans[0].spans.len(), 2);
    }
}

/// Connections after a TLS handshake.
struct Secured(Listener, TlsAcceptor);

impl Accept for Secured {
    type Io = tokio_rustls::server::TlsStream<serve::Socket>;
    type Handshake = Pin<Box<dyn Future<Output = std::io::Result<Self::Io>> + Send>>;

    async fn accept(&mut self) -> std::io::Result<Self::Handshake> {
        let (plain, acceptor) = (self.0.accept().await?, self.1.clone());
        Ok(Box::pin(async move { acceptor.accept(plain.await?).await }))
    }
}

#[tokio::test]
async fn collectors_behind_tls() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    let identity = || Some((theirs.certificate.clone(), theirs.key.clone()));
    // Whether the server asks who we are, and the part of the log that says why nothing arrived.
    let rows = [
        ("its authority", false, Some(&ours), None, ""),
        ("its authority, and who we are", true, Some(&ours), identity(), ""),
        ("another authority", false, Some(&theirs), None, "certificate"),
        ("the machine's authorities", false, None, None, "certificate"),
        ("not who we are", true, Some(&ours), None, "ertificate"),
    ];
    for protocol in [Protocol::Grpc, Protocol::Http] {
        for (what, asks, authority, identity, warning) in &rows {
            let acceptor = ours.server(asks.then_some(&theirs));
            let collector =
                Collector::start("0", serve::Protocol::Auto, |plain| Secured(plain, acceptor)).await;
            let endpoint = format!("localhost:{}", collector.address.port());
            let exporting = Exporting::start(export::Settings::Otlp(Otlp {
                authorities: authority.map(|pki| pki.root.clone()),
                identity: identity.clone(),
                ..otlp(protocol, endpoint)
            }));
            let lines = exporting.finish().await;
            let arrived = collector.finish().await;
            let what = format!("{protocol:?}, {what}: {lines}");
            assert_eq!(lines.is_empty(), warning.is_empty(), "{what}");
            assert!(lines.contains(warning), "{what}");
            assert_eq!(arrived.len(), usize::from(warning.is_empty()), "{what}");
            if let [(head, _)] = arrived.as_slice() {
                assert_eq!(head.headers["x-api-key"], "k", "{what}");
            }
        }
    }
    let acceptor = ours.server(None);
    let collector = Collector::start("0", serve::Protocol::Auto, |plain| Secured(plain, acceptor)).await;
    let endpoint = format!("https://localhost:{}/api/v2/spans", collector.address.port());
    let lines = Exporting::start(export::Settings::Zipkin { endpoint })
        .finish()
        .await;
    assert!(lines.contains("certificate"), "{lines}");
    assert_eq!(collector.finish().await.len(), 0);
}

#[tokio::test]
async fn a_collector_that_says_nothing_is_waited_for_as_long_as_stated() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let exporting = Exporting::start(export::Settings::Otlp(Otlp {
        timeout: Duration::from_millis(50),
        ..otlp(Protocol::Http, endpoint)
    }));
    let (_held, _) = listener.accept().await.unwrap();
    let lines = exporting.finish().await;
    assert!(lines.contains("no answer within 50ms"), "{lines}");
}

#[tokio::test]
async fn stdout_shows_a_line_per_span() {
    let exporting = Exporting::start(export::Settings::Stdout);
    let lines = exporting.finish().await;
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(
        lines.contains(&format!("msg=\"[/v1.0/Invoke] Trace: {TRACE} Span: {SPAN}/")),
        "{lines}"
    );
    assert!(lines.contains("scope=dapr.runtime.trace"), "{lines}");
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_not_memory() {
    let (log, lines) = testing::log();
    let exporter = export::Settings::Zipkin {
        endpoint: "http://127.0.0.1:1/".to_owned(),
    };
    let (tracer, pump) = Tracer::new(&settings(Some("1"), vec![exporter]), &log).unwrap();
    for _ in 0..super::QUEUE + 10 {
        drop(tracer.start("x", Kind::Server, None));
    }
    assert_eq!(tracer.dropped(), 10);
    let (trigger, watch) = drain::channel();
    let tasks = Tasks::new(&log, drain::channel().0);
    tasks.spawn("trace", OnExit::Log, pump.unwrap().run(watch));
    trigger.fire();
    tasks.join(Duration::from_secs(60)).await.unwrap();
    let text = lines.text();
    assert!(text.contains("512 spans not exported to 127.0.0.1:1: "), "{text}");
}
