//! An HTTP client of few words for tests.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::convert::Infallible;
use std::io;
use std::time::Duration;

/// A body that may be streamed.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A client with its own connections.
#[derive(Clone)]
pub struct Client {
    inner: hyper_util::client::legacy::Client<HttpConnector, Body>,
    patience: Duration,
}

/// An answer whose body is here.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Trailers included.
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    /// Requests fail after `patience`.
    pub fn new(patience: Duration) -> Self {
        Self {
            inner: hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http(),
            patience,
        }
    }

    /// One that speaks HTTP/2 without being asked, as gRPC does.
    pub fn http2(patience: Duration) -> Self {
        let mut builder = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
        Self {
            inner: builder.http2_only(true).build_http(),
            patience,
        }
    }

    /// # Errors
    /// What went wrong, in words; also when there is no answer in time.
    pub async fn request(&self, request: Request<Body>) -> Result<Answer, String> {
        let exchange = async {
            let (head, body) = self.open(request).await?.into_parts();
            let body = body.collect().await.map_err(|error| describe(&error))?;
            let mut headers = head.headers;
            headers.extend(body.trailers().cloned().unwrap_or_default());
            Ok(Answer {
                status: head.status.as_u16(),
                headers,
                body: body.to_bytes(),
            })
        };
        let late = |_| format!("no answer in {:?}", self.patience);
        tokio::time::timeout(self.patience, exchange)
            .await
            .map_err(late)?
    }

    /// The answer's head; its body is still under way.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub async fn open(&self, request: Request<Body>) -> Result<Response<Incoming>, String> {
        self.inner
            .request(request)
            .await
            .map_err(|error| describe(&error))
    }

    /// # Errors
    /// See [`request`](Self::request).
    pub async fn get(&self, url: &str) -> Result<Answer, String> {
        self.request(Request::get(url).body(full("")).expect("a valid request"))
            .await
    }

    /// # Errors
    /// See [`request`](Self::request).
    pub async fn post_json(&self, url: &str, body: impl Into<Bytes>) -> Result<Answer, String> {
        let request = Request::post(url).header("content-type", "application/json");
        self.request(request.body(full(body)).expect("a valid request"))
            .await
    }

    /// Asks until the answer has this status.
    ///
    /// # Panics
    /// When it has not in `patience`.
    pub async fn until(&self, url: &str, status: u16, patience: Duration) {
        let mut last = String::new();
        let asking = async {
            loop {
                match self.get(url).await {
                    Ok(answer) if answer.status == status => return,
                    Ok(answer) => last = format!("{} {}", answer.status, answer.text()),
                    Err(error) => last = error,
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let done = tokio::time::timeout(patience, asking).await.is_ok();
        assert!(
            done,
            "{url} does not answer with {status} in {patience:?}: {last}"
        );
    }
}

/// A body that is here.
pub fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
