//! More than a sidecar can do: the excess is refused at once, what was begun gets done, and memory stays where it was.

use crate::cluster::{Cluster, SOON, Sidecar, Spec, quick};
use hyper::body::Incoming;
use hyper::{Request, Response};
use outrigger_testkit::app::App;
use outrigger_testkit::client::{Client, full};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Growth that is not by the number of requests.
const SLACK: u64 = 24 << 20;

async fn sidecar(cluster: &Cluster, app: &App, flags: &[&str]) -> Sidecar {
    let mut sidecar = cluster.sidecar(&Spec {
        app_id: "shop",
        app_port: Some(app.port()),
        hub: true,
        flags,
        ..Spec::default()
    });
    sidecar.start().await;
    sidecar
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_limit_requests_are_refused() {
    const MOST: u32 = 8;
    let cluster = Cluster::new();
    let mut hub = cluster.hub();
    hub.start();
    let (open, gate) = watch::channel(false);
    let here = Arc::new(AtomicU32::new(0));
    let count = here.clone();
    let app = App::start(0, move |request: Request<Incoming>| {
        let (mut gate, count) = (gate.clone(), count.clone());
        async move {
            // The sidecar has questions of its own.
            if request.uri().path() != "/slow" {
                let absent = Response::builder().status(404).body(full(""));
                return absent.expect("a valid answer");
            }
            count.fetch_add(1, Ordering::Relaxed);
            gate.wait_for(|open| *open).await.expect("the test lives");
            Response::new(full("done"))
        }
    })
    .await;
    let limit = MOST.to_string();
    let sidecar = sidecar(&cluster, &app, &["--max-concurrent-requests", &limit]).await;
    let client = Client::new(SOON);
    let url = sidecar.url("/v1.0/invoke/shop/method/slow");
    let mut held = JoinSet::new();
    for _ in 0..MOST {
        let (client, url) = (client.clone(), url.clone());
        held.spawn(async move { client.get(&url).await });
    }
    while here.load(Ordering::Relaxed) < MOST {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    for path in ["/v1.0/invoke/shop/method/more", "/v1.0/state/none/key"] {
        let refused = client.get(&sidecar.url(path)).await.expect("an answer at once");
        assert_eq!(refused.status, 503, "{path}: {}", refused.text());
        assert_eq!(refused.headers["retry-after"], "1");
        assert!(
            refused.text().contains("\"ERR_OVERLOADED\"") && refused.text().contains("at most 8"),
            "{}",
            refused.text()
        );
    }
    for (path, status) in [
        ("/v1.0/healthz", 204),
        ("/v1.0/healthz/outbound", 204),
        ("/v1.0/metadata", 200),
    ] {
        let answer = client.get(&sidecar.url(path)).await.expect("it is alive");
        assert_eq!(answer.status, status, "{path}");
    }

    // The door for gRPC has places of its own; there the same happens.
    let grpc = Client::http2(SOON);
    let call = || {
        let request = Request::post(format!(
            "http://127.0.0.1:{}/any.Service/Method",
            sidecar.grpc_port()
        ))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("dapr-app-id", "shop");
        grpc.request(request.body(full(vec![0; 5])).expect("a valid request"))
    };
    let answer = call().await.expect("an answer");
    assert_ne!(answer.headers["grpc-status"], "14", "{answer:?}");

    assert_eq!(
        here.load(Ordering::Relaxed),
        MOST,
        "the app saw nothing of what was refused"
    );
    open.send_replace(true);
    while let Some(answer) = held.join_next().await {
        let answer = answer.expect("no panic").expect("it was begun");
        assert_eq!((answer.status, answer.text().as_str()), (200, "done"));
    }
    assert_eq!(client.get(&url).await.expect("there is room").status, 200);
}

/// An app that can do some 250 requests a second is asked for three times as many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_times_too_much() {
    const AT_ONCE: usize = 5;
    const WORK: Duration = Duration::from_millis(20);
    let cluster = Cluster::new();
    let mut hub = cluster.hub();
    hub.start();
    let workers = Arc::new(Semaphore::new(AT_ONCE));
    let app = App::start(0, move |_| {
        let workers = workers.clone();
        async move {
            let _worker = workers.acquire().await.expect("never closed");
            tokio::time::sleep(WORK).await;
            Response::new(full("done"))
        }
    })
    .await;
    let sidecar = sidecar(
        &cluster,
        &app,
        &["--max-concurrent-requests", "64", "--log-level", "error"],
    )
    .await;
    let client = Client::new(SOON);
    let url = sidecar.url("/v1.0/invoke/shop/method/work");

    let span = Duration::from_secs(if quick() { 5 } else { 60 });
    let peak = closed(&client, &url, AT_ONCE * 4, Duration::from_secs(5)).await;
    // Buffers grow to what this load needs.
    flood(&client, &url, peak * 3.0, Duration::from_secs(2)).await;
    let before = sidecar.process.resident();
    let (good, refused, other) = flood(&client, &url, peak * 3.0, span).await;
    let growth = sidecar.process.resident().saturating_sub(before);
    let rate = f64::from(good) / span.as_secs_f64();
    assert_eq!(other, 0, "answers are 200 or 503");
    assert!(
        refused > good / 2,
        "{refused} refused, {good} done: that was no overload"
    );
    assert!(
        rate >= peak * 0.9,
        "{rate:.0}/s under overload, {peak:.0}/s at the peak"
    );
    assert!(growth < SLACK, "memory grew by {growth} bytes");
}

/// Requests per second that get done when nobody asks for more.
async fn closed(client: &Client, url: &str, clients: usize, span: Duration) -> f64 {
    let until = Instant::now() + span;
    let mut all = JoinSet::new();
    for _ in 0..clients {
        let (client, url) = (client.clone(), url.to_owned());
        all.spawn(async move {
            let mut done = 0_u32;
            while Instant::now() < until {
                assert_eq!(client.get(&url).await.expect("it works").status, 200);
                done += 1;
            }
            done
        });
    }
    let mut done = 0;
    while let Some(count) = all.join_next().await {
        done += count.expect("no panic");
    }
    f64::from(done) / span.as_secs_f64()
}

/// Asks so often a second, whatever comes back: counts 200, 503 and the rest.
async fn flood(client: &Client, url: &str, rate: f64, span: Duration) -> (u32, u32, u32) {
    let counts = Arc::new([const { AtomicU32::new(0) }; 3]);
    let mut asked = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(10.0 / rate));
    let until = Instant::now() + span;
    while Instant::now() < until {
        ticks.tick().await;
        for _ in 0..10 {
            let (client, url, counts) = (client.clone(), url.to_owned(), counts.clone());
            asked.spawn(async move {
                let place = match client.get(&url).await {
                    Ok(answer) if answer.status == 200 => 0,
                    Ok(answer) if answer.status == 503 && answer.headers.contains_key("retry-after") => 1,
                    _ => 2,
                };
                counts[place].fetch_add(1, Ordering::Relaxed);
            });
        }
        while asked.try_join_next().is_some() {}
    }
    while asked.join_next().await.is_some() {}
    let count = |place: usize| counts[place].load(Ordering::Relaxed);
    (count(0), count(1), count(2))
}
