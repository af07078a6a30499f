use super::{COOKIE_NAME, Login};
use crate::middleware::testing;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use outrigger_component::error::Result;
use outrigger_component::middleware::HttpMiddleware;
use outrigger_component::registry::Registry;
use outrigger_testkit::app::App;
use outrigger_testkit::client::{Body, full};
use outrigger_testkit::setup::setup;
use std::sync::Arc;

async fn build(metadata: &[(&str, &str)]) -> Result<Arc<dyn HttpMiddleware>> {
    let mut registry = Registry::default();
    registry.middleware("login", Login::build);
    registry.middlewares().build("login", "", setup(metadata)).await
}

struct Seen {
    status: u16,
    location: String,
    cookie: String,
    body: String,
}

async fn ask(middleware: &Arc<dyn HttpMiddleware>, path: &str, cookie: &str) -> Seen {
    let headers = [
        ("host", "shop.example".to_owned()),
        ("cookie", format!("other=1; {cookie}")),
    ];
    let seen = testing::ask(middleware, path, &headers, "authorization").await;
    let text = |name: &str| {
        let value = seen.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    };
    Seen {
        status: seen.status,
        location: text("location").to_owned(),
        cookie: text("set-cookie").split(';').next().unwrap().to_owned(),
        body: seen.body,
    }
}

/// Gives a token for the code `good`.
async fn endpoint() -> App {
    App::start(0, |request: Request<Incoming>| async {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let form = String::from_utf8(body.to_vec()).unwrap();
        let good = form.contains("code=good") && form.contains("grant_type=authorization_code");
        let answer: Response<Body> = Response::builder()
            .status(if good { 200 } else { 400 })
            .body(full(r#"{"access_token":"t","token_type":"bearer"}"#))
            .unwrap();
        answer
    })
    .await
}

async fn login(force_https: &str) -> (Arc<dyn HttpMiddleware>, App) {
    let app = endpoint().await;
    let url = format!("http://127.0.0.1:{}/token", app.port());
    let middleware = build(&[
        ("clientID", "id"),
        ("clientSecret", "secret"),
        ("scopes", "a,b"),
        ("authURL", "https://login.example/authorize?tenant=1"),
        ("tokenURL", &url),
        ("authHeaderName", "authorization"),
        ("redirectURL", "https://shop.example/back"),
        ("forceHTTPS", force_https),
        ("pathFilter", "^/guarded|^/back"),
    ])
    .await
    .unwrap();
    (middleware, app)
}

#[tokio::test]
async fn a_browsers_way() {
    for (force_https, target) in [("", "/guarded?x=1"), ("true", "https://shop.example/guarded?x=1")] {
        let (middleware, _app) = login(force_https).await;
        let open = ask(&middleware, "/open", "").await;
        assert_eq!((open.status, &*open.body), (200, "none"));

        let sent = ask(&middleware, "/guarded?x=1", "").await;
        assert_eq!(sent.status, 302);
        let (head, state) = sent.location.rsplit_once("state=").unwrap();
        assert_eq!(
            head,
            "https://login.example/authorize?tenant=1&access_type=offline&client_id=id\
             &redirect_uri=https%3A%2F%2Fshop.example%2Fback&response_type=code&scope=a+b&"
        );
        assert!(sent.cookie.starts_with(COOKIE_NAME));

        let back = |state: &str, code: &str| format!("/back?state={state}&code={code}");
        for (path, cookie, status, body) in [
            (back("wrong", "good"), sent.cookie.as_str(), 400, "invalid state"),
            (back(state, ""), &sent.cookie, 400, "code not found"),
            (back(state, "bad"), &sent.cookie, 500, "Internal Server Error"),
            (back(state, "good"), "", 500, "Internal Server Error"),
            (
                back(state, "good"),
                "outrigger-session=guessed",
                500,
                "Internal Server Error",
            ),
        ] {
            let seen = ask(&middleware, &path, cookie).await;
            assert_eq!((seen.status, &*seen.body), (status, body), "{path}");
        }
        let returned = ask(&middleware, &back(state, "good"), &sent.cookie).await;
        assert_eq!((returned.status, &*returned.location), (302, target));
        let inside = ask(&middleware, "/guarded?x=1", &sent.cookie).await;
        assert_eq!((inside.status, &*inside.body), (200, "Bearer t"));
        assert_eq!(ask(&middleware, "/guarded", "").await.status, 302);
    }
}

#[tokio::test]
async fn metadata_that_cannot_be() {
    let good = [
        ("authURL", "https://login.example/"),
        ("tokenURL", "http://login.example/"),
        ("authHeaderName", "authorization"),
    ];
    assert!(build(&good).await.is_ok());
    for (name, value) in [
        ("authURL", "no url"),
        ("tokenURL", ""),
        ("authHeaderName", "a b"),
        ("pathFilter", "("),
    ] {
        let mut metadata = good.to_vec();
        metadata.retain(|(other, _)| *other != name);
        metadata.push((name, value));
        let error = build(&metadata).await.err().unwrap().to_string();
        assert!(error.contains(name), "{name}: {error}");
    }
}
