//! `stub-app PORT FILE`: an app that subscribes to `events` and writes each event that came into a file, one line
//! `NUMBER ID` each, before it says that it has it. What a killed process has written stays written.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use outrigger_testkit::app::App;
use outrigger_testkit::client::{Body, full};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::Arc;

const SUBSCRIPTIONS: &str = r#"[{"pubsubname":"pubsub","topic":"events","route":"/events"}]"#;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(port), Some(path)) = (args.next().and_then(|port| port.parse().ok()), args.next()) else {
        panic!("usage: stub-app PORT FILE");
    };
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .expect("the file can be written");
    let file = Arc::new(file);
    let _app = App::start(port, move |request| answer(Arc::clone(&file), request)).await;
    std::future::pending::<()>().await;
}

async fn answer(file: Arc<File>, request: Request<Incoming>) -> Response<Body> {
    let (status, text) = match request.uri().path() {
        "/dapr/subscribe" => (StatusCode::OK, SUBSCRIPTIONS),
        "/events" => match request.into_body().collect().await {
            Ok(body) => {
                record(&file, &body.to_bytes());
                (StatusCode::OK, r#"{"status":"SUCCESS"}"#)
            }
            // The sidecar was killed in the middle.
            Err(_) => (StatusCode::BAD_REQUEST, ""),
        },
        _ => (StatusCode::NOT_FOUND, ""),
    };
    Response::builder()
        .status(status)
        .body(full(text))
        .expect("a valid response")
}

/// One write per line, so that a line is there or not.
fn record(mut file: &File, event: &Bytes) {
    let event: serde_json::Value = serde_json::from_slice(event).expect("a CloudEvent is JSON");
    let number = event["data"]["n"].as_u64().expect("the number we published");
    let id = event["id"].as_str().expect("a CloudEvent has an id");
    file.write_all(format!("{number} {id}\n").as_bytes())
        .expect("the file can be written");
}
