use super::ClientCredentials;
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
use std::sync::{Arc, Mutex};

/// A token endpoint that notes what it is asked, and refuses ids in headers for `/form`.
async fn endpoint(asked: Arc<Mutex<Vec<String>>>) -> App {
    App::start(0, move |request: Request<Incoming>| {
        let asked = Arc::clone(&asked);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let shown = head
                .headers
                .get("authorization")
                .map_or("", |it| it.to_str().unwrap());
            let number = {
                let mut asked = asked.lock().unwrap();
                asked.push(format!("{shown} {}", String::from_utf8_lossy(&body)));
                asked.len()
            };
            let status = match head.uri.path() {
                "/form" if !shown.is_empty() => 401,
                "/broken" => 500,
                _ => 200,
            };
            let text = format!(r#"{{"access_token":"t{number}","expires_in":60}}"#);
            let answer: Response<Body> = Response::builder().status(status).body(full(text)).unwrap();
            answer
        }
    })
    .await
}

async fn build(metadata: &[(&str, &str)]) -> Result<Arc<dyn HttpMiddleware>> {
    let mut registry = Registry::default();
    registry.middleware("cc", ClientCredentials::build);
    registry.middlewares().build("cc", "", setup(metadata)).await
}

async fn ask(middleware: &Arc<dyn HttpMiddleware>, path: &str) -> (u16, String) {
    let seen = testing::ask(middleware, path, &[], "x-token").await;
    (seen.status, seen.body)
}

#[tokio::test]
async fn requests_get_one_token_while_it_is_valid() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let app = endpoint(Arc::clone(&asked)).await;
    let form = "grant_type=client_credentials&resource=a+b&scope=one+two";
    let in_form = format!(" client_id=id&client_secret=s%3At&{form}");
    let in_header = format!("Basic aWQ6cyUzQXQ= {form}");
    for (path, style, expected) in [
        ("/", "0", vec![in_header.clone()]),
        ("/", "2", vec![in_header.clone()]),
        ("/", "1", vec![in_form.clone()]),
        ("/form", "0", vec![in_header.clone(), in_form.clone()]),
    ] {
        let url = format!("http://127.0.0.1:{}{path}", app.port());
        let middleware = build(&[
            ("clientID", "id"),
            ("clientSecret", "s:t"),
            ("scopes", "one,two"),
            ("tokenURL", &url),
            ("headerName", "X-Token"),
            ("endpointParamsQuery", "resource=a+b"),
            ("authStyle", style),
            ("pathFilter", "^/guarded"),
        ])
        .await
        .unwrap();
        assert_eq!(ask(&middleware, "/open").await, (200, "none".to_owned()));
        let token = format!("Bearer t{}", expected.len());
        let all = futures_of(&middleware).await;
        assert_eq!(all, vec![(200, token); 5], "{path} {style}");
        let seen = std::mem::take(&mut *asked.lock().unwrap());
        let sorted = |text: &String| {
            let (header, form) = text.split_once(' ').unwrap_or(("", text));
            let (header, form) = match header {
                "Basic" => form
                    .split_once(' ')
                    .map(|(code, form)| (format!("Basic {code}"), form))
                    .unwrap(),
                other => (other.to_owned(), form),
            };
            let mut pairs: Vec<&str> = form.split('&').collect();
            pairs.sort_unstable();
            format!("{header} {}", pairs.join("&"))
        };
        let (seen, expected): (Vec<_>, Vec<_>) = (
            seen.iter().map(sorted).collect(),
            expected.iter().map(sorted).collect(),
        );
        assert_eq!(seen, expected, "{path} {style}");
    }
}

async fn futures_of(middleware: &Arc<dyn HttpMiddleware>) -> Vec<(u16, String)> {
    let (a, b, c, d, e) = tokio::join!(
        ask(middleware, "/guarded"),
        ask(middleware, "/guarded"),
        ask(middleware, "/guarded"),
        ask(middleware, "/guarded"),
        ask(middleware, "/guarded/x"),
    );
    vec![a, b, c, d, e]
}

#[tokio::test]
async fn without_a_token_nothing_passes() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let app = endpoint(Arc::clone(&asked)).await;
    let url = format!("http://127.0.0.1:{}/broken", app.port());
    let all = [
        ("clientID", "id"),
        ("clientSecret", "secret"),
        ("scopes", "one"),
        ("tokenURL", url.as_str()),
        ("headerName", "X-Token"),
    ];
    let middleware = build(&all).await.unwrap();
    assert_eq!(
        ask(&middleware, "/").await,
        (500, "Internal Server Error".to_owned())
    );

    let error = build(&[("authStyle", "3")]).await.err().unwrap().to_string();
    assert_eq!(
        error,
        "metadata errors: Parameter 'headerName' needs to be set. Parameter 'clientID' needs to be set. \
         Parameter 'clientSecret' needs to be set. Parameter 'scopes' needs to be set. Parameter 'tokenURL' needs to be set. \
         Parameter 'authStyle' can only have the values 0,1,2. Received: '3'. "
    );
    let mut bad = all.to_vec();
    bad.push(("pathFilter", "("));
    assert!(
        build(&bad)
            .await
            .err()
            .unwrap()
            .to_string()
            .contains("pathFilter")
    );
}
