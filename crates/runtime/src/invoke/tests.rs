use super::{Invoke, Origin, Parts};
use crate::access::{Identity, Rules};
use crate::fakes::Bench;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use outrigger_channel::app::{AppChannel, Outcome, Subscription, TopicEvent};
use outrigger_channel::body::Body;
use outrigger_channel::call::{Call, Reply, Status};
use outrigger_channel::endpoint::Endpoints;
use outrigger_channel::error::Error;
use outrigger_channel::peer::PeerChannel;
use outrigger_component::Component;
use outrigger_component::error::Result as ComponentResult;
use outrigger_component::resolver::{Endpoint, NameResolver, Target};
use outrigger_daemon::drain;
use outrigger_daemon::metrics::{Access, Invocation};
use outrigger_daemon::tasks::Tasks;
use outrigger_daemon::trace::Context;
use outrigger_resiliency::load::load;
use outrigger_resources::configuration::access::AccessControl;
use std::sync::{Arc, Mutex};

fn me() -> Target {
    Target {
        app_id: "me".into(),
        namespace: "default".into(),
    }
}

/// Answers what it was called with; calls are recorded by method.
#[derive(Default)]
struct App(Mutex<Vec<String>>);

#[async_trait::async_trait]
impl AppChannel for App {
    async fn subscriptions(&self) -> Result<Vec<Subscription>, Error> {
        Ok(Vec::new())
    }

    async fn invoke(&self, call: Call) -> Result<Reply, Error> {
        self.0.lock().unwrap().push(call.method.clone());
        if call.method == "down" {
            return Err(Error::Unavailable("gone".into()));
        }
        if let Ok(status) = call.method.parse() {
            return Ok(Reply::http(status, Bytes::from_static(b"why")));
        }
        let mut reply = Reply::http(201, call.body);
        reply.headers = call.headers;
        Ok(reply)
    }

    async fn deliver(&self, _: TopicEvent) -> Result<Outcome, Error> {
        Ok(Outcome::Success)
    }

    async fn proxy(&self, _: Request<Body>) -> Result<Response<Body>, Error> {
        Ok(Response::new(Body::Empty))
    }

    async fn healthy(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// Fails as often as told, then answers.
struct Peers {
    failures: Mutex<u32>,
    code: i32,
    calls: Mutex<Vec<(String, HeaderMap)>>,
}

#[async_trait::async_trait]
impl PeerChannel for Peers {
    async fn reach(&self, _: &Endpoint) -> Result<(), Error> {
        Ok(())
    }

    async fn invoke(
        &self,
        at: &Endpoint,
        _: &Target,
        call: Call,
        _: Option<&Context>,
    ) -> Result<Reply, Error> {
        self.calls
            .lock()
            .unwrap()
            .push((at.0.clone(), call.headers.clone()));
        let mut failures = self.failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Err(Error::Status {
                code: self.code,
                message: "no".into(),
                details: Vec::new(),
            });
        }
        Ok(Reply::http(200, call.body))
    }

    async fn proxy(&self, _: &Endpoint, _: Request<Body>) -> Result<Response<Body>, Error> {
        Ok(Response::new(Body::Empty))
    }

    fn forget(&self, _: &Endpoint) {}
}

struct Names(Vec<&'static str>);

impl Component for Names {}

#[async_trait::async_trait]
impl NameResolver for Names {
    async fn resolve(&self, _: &Target) -> ComponentResult<Vec<Endpoint>> {
        Ok(self.0.iter().map(|address| Endpoint((*address).into())).collect())
    }
}

struct World {
    bench: Bench,
    /// Owner of what endpoints start.
    _tasks: Tasks,
    invoke: Invoke,
    app: Arc<App>,
    peers: Arc<Peers>,
}

fn world(failures: u32, code: i32, names: Vec<&'static str>) -> World {
    guarded(failures, code, names, None)
}

fn guarded(failures: u32, code: i32, names: Vec<&'static str>, access: Option<Rules>) -> World {
    let bench = Bench::new();
    let tasks = Tasks::new(&bench.log, drain::channel().0);
    let app = Arc::new(App::default());
    let peers = Arc::new(Peers {
        failures: Mutex::new(failures),
        code,
        calls: Mutex::default(),
    });
    let invoke = Invoke::new(Parts {
        me: me(),
        app: Some(app.clone()),
        peers: peers.clone(),
        names: Arc::new(Names(names)),
        endpoints: Arc::new(Endpoints::new(
            [("broken".to_owned(), Err("it is sealed".to_owned()))],
            &tasks.spawner(),
        )),
        access,
        host_address: "10.0.0.1".into(),
        host_name: "host".into(),
        policies: Arc::new(load(std::iter::empty(), Arc::new(()))),
        body_limit: 1 << 20,
        metrics: Invocation::new(&bench.registry),
        access_metrics: Access::new(&bench.registry),
    });
    World {
        bench,
        _tasks: tasks,
        invoke,
        app,
        peers,
    }
}

fn call(method: &str, body: &'static str) -> Call {
    Call {
        verb: http::Method::POST,
        method: method.into(),
        body: Bytes::from_static(body.as_bytes()).into(),
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn own_app_is_called_without_a_hop() {
    let world = world(0, 0, vec![]);
    for target in ["me", "me.default"] {
        let reply = world
            .invoke
            .call(target, call("a//b/../c", "x"), None)
            .await
            .expect(target);
        assert_eq!(reply.status, Status::Http(201));
    }
    assert_eq!(*world.app.0.lock().unwrap(), ["a/c", "a/c"]);
    assert!(world.peers.calls.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn errors_have_the_references_texts() {
    let world = world(9, 13, vec!["h:1"]);
    for (target, method, expected) in [
        ("", "m", "failed to invoke, id: , err: app id is empty"),
        (
            "a.b.c",
            "m",
            "failed to invoke, id: a.b.c, err: invalid app id a.b.c",
        ),
        (
            "me",
            "a?b",
            "failed to invoke, id: me, err: rpc error: code = InvalidArgument desc = invalid method: method contains forbidden character: \"a?b\"",
        ),
        ("me", "down", "failed to invoke, id: me, err: gone"),
        (
            "other",
            "m",
            "failed to invoke, id: other, err: rpc error: code = Internal desc = no",
        ),
        (
            "broken",
            "m",
            "failed to invoke, id: broken, err: HTTPEndpoint \"broken\" cannot be used: it is sealed",
        ),
        (
            "broken.anywhere",
            "m",
            "failed to invoke, id: broken.anywhere, err: HTTPEndpoint \"broken\" cannot be used: it is sealed",
        ),
        (
            "http://",
            "m",
            "failed to invoke, id: http://, err: the URL has no host, or is not valid",
        ),
    ] {
        let error = world
            .invoke
            .call(target, call(method, ""), None)
            .await
            .expect_err(target);
        assert_eq!(error.message, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_sidecar_is_tried_again_and_in_turn() {
    let world = world(2, 14, vec!["h:1", "h:2"]);
    let reply = world
        .invoke
        .call("other", call("m", "body"), None)
        .await
        .expect("third try");
    assert_eq!(reply.body.collect(10).await.expect("body"), "body");
    let calls = world.peers.calls.lock().unwrap();
    let addresses: Vec<&str> = calls.iter().map(|(address, _)| address.as_str()).collect();
    assert_eq!(addresses, ["h:1", "h:2", "h:1"]);
    assert_eq!(calls[0].1["x-forwarded-for"], "10.0.0.1");
    assert_eq!(
        calls[2].1.get_all("forwarded").iter().count(),
        1,
        "a repeated call is not forwarded twice"
    );
}

#[tokio::test(start_paused = true)]
async fn retries_end() {
    let world = world(9, 14, vec!["h:1"]);
    let error = world
        .invoke
        .call("other", call("m", ""), None)
        .await
        .expect_err("gives up");
    assert!(
        error
            .message
            .contains("failed to invoke target other after 3 retries"),
        "{}",
        error.message
    );
    assert_eq!(world.peers.calls.lock().unwrap().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_streamed_body_is_sent_once() {
    let world = world(1, 14, vec!["h:1"]);
    let mut streamed = call("m", "");
    streamed.body = Body::stream(Held(Some(Bytes::from_static(b"x"))));
    world
        .invoke
        .call("other", streamed, None)
        .await
        .expect_err("not repeated");
    assert_eq!(world.peers.calls.lock().unwrap().len(), 1);
}

/// A body of unknown length.
struct Held(Option<Bytes>);

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = outrigger_channel::body::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(self.0.take().map(|data| Ok(http_body::Frame::data(data))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_peers_call_never_leaves_again() {
    let world = world(0, 0, vec!["h:1"]);
    let refused = world
        .invoke
        .proxy("other", Request::new(Body::Empty), Origin::Peer, None, None)
        .await
        .expect_err("refused");
    assert!(
        refused.message.contains("not behind this sidecar"),
        "{}",
        refused.message
    );
    world
        .invoke
        .proxy("other", Request::new(Body::Empty), Origin::Api, None, None)
        .await
        .expect("from the API");
    world
        .invoke
        .proxy("me", Request::new(Body::Empty), Origin::Peer, None, None)
        .await
        .expect("our own app");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_app_is_named() {
    let world = world(0, 0, vec![]);
    let error = world
        .invoke
        .call("ghost", call("m", ""), None)
        .await
        .expect_err("unknown");
    assert!(
        error.message.contains("couldn't find service: ghost"),
        "{}",
        error.message
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_instance_is_left_out_at_once() {
    let mut world = world(0, 0, vec!["dead:1", "good:1"]);
    world.invoke.peers = Arc::new(HalfDead);
    let started = tokio::time::Instant::now();
    for _ in 0..10 {
        world
            .invoke
            .call("other", call("m", "body"), None)
            .await
            .expect("the other instance");
    }
    assert_eq!(started.elapsed(), std::time::Duration::ZERO, "nobody waited");
}

/// Whatever begins with `dead` cannot be reached.
struct HalfDead;

#[async_trait::async_trait]
impl PeerChannel for HalfDead {
    async fn reach(&self, at: &Endpoint) -> Result<(), Error> {
        if at.0.starts_with("dead") {
            return Err(Error::Unavailable("connection refused".into()));
        }
        Ok(())
    }

    async fn invoke(
        &self,
        _: &Endpoint,
        _: &Target,
        call: Call,
        _: Option<&Context>,
    ) -> Result<Reply, Error> {
        Ok(Reply::http(200, call.body))
    }

    async fn proxy(&self, _: &Endpoint, _: Request<Body>) -> Result<Response<Body>, Error> {
        Ok(Response::new(Body::Empty))
    }

    fn forget(&self, _: &Endpoint) {}
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_events_gets_no_failure_as_one() {
    let world = world(0, 0, vec![]);
    for (method, event_stream, expected) in [
        ("404", false, Ok(Status::Http(404))),
        ("204", true, Ok(Status::Http(204))),
        (
            "404",
            true,
            Err("error invoking app channel: no response received from stream"),
        ),
    ] {
        let call = Call {
            event_stream,
            ..call(method, "")
        };
        let reply = world.invoke.serve(call, None, None).await;
        let seen = reply.map(|reply| reply.status).map_err(|refused| refused.message);
        assert_eq!(
            seen.as_ref().map_err(String::as_str),
            expected.as_ref().map_err(|it| *it)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn rules_are_asked_before_the_app() {
    let spec = AccessControl {
        default_action: "deny".to_owned(),
        ..AccessControl::default()
    };
    let world = guarded(0, 0, vec![], Rules::new(&spec, true).unwrap());
    let caller = Identity::parse("spiffe://public/ns/prod/shop").unwrap();
    for (caller, id) in [(None, ""), (Some(&caller), "spiffe://public/ns/prod/shop")] {
        let refused = world
            .invoke
            .serve(call("a/../b", ""), caller, None)
            .await
            .expect_err("denied");
        assert_eq!(refused.grpc, 7);
        assert_eq!(
            refused.message,
            format!("access control policy has denied access to id: {id} operation: b verb: POST")
        );
        let mut request = Request::new(Body::Empty);
        *request.uri_mut() = "/pkg.Service/Method".parse().unwrap();
        let refused = world
            .invoke
            .proxy("me", request, Origin::Peer, caller, None)
            .await
            .expect_err("denied");
        assert_eq!(
            refused.message,
            format!(
                "access control policy has denied access to id: {id} operation: /pkg.Service/Method verb: NONE"
            )
        );
    }
    assert!(world.app.0.lock().unwrap().is_empty(), "the app saw nothing");
    let shown = world.bench.registry.expose();
    assert!(
        shown.contains("acl_global_policy_action_blocked_total"),
        "{shown}"
    );
    world
        .invoke
        .call("me", call("b", ""), None)
        .await
        .expect("our own app needs no permission");
}
