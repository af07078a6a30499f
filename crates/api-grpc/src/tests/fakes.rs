//! An app, and seams that no in-memory component covers.

use super::bench::LIMIT;
use super::requests::framed;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame};
use hyper::body::Incoming;
use outrigger_channel::app::{AppChannel, Outcome, Subscription, TopicEvent};
use outrigger_channel::body::{Body, Error as BodyError};
use outrigger_channel::call::{Call, Reply, Status};
use outrigger_channel::error::Error as ChannelError;
use outrigger_channel::h2::Pool;
use outrigger_channel::peer::PeerChannel;
use outrigger_channel::wire;
use outrigger_component::Component;
use outrigger_component::binding::{Failed, Invoke, Output, OutputBinding};
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::resolver::{Endpoint, NameResolver, Target};
use outrigger_component::secret::{self, Secret, SecretStore};
use outrigger_daemon::trace::Context as Trace;
use outrigger_proto::any::Any;
use prost::Message;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The app `shop`. Its gRPC side is at the end of `proxied`.
pub(super) struct App {
    pub(super) proxied: Pool,
}

#[async_trait::async_trait]
impl AppChannel for App {
    async fn subscriptions(&self) -> Result<Vec<Subscription>, ChannelError> {
        Ok(Vec::new())
    }

    /// `echo` gives back what it got; a number is an HTTP status, `grpc` a gRPC one; `down` is no answer.
    async fn invoke(&self, call: Call) -> Result<Reply, ChannelError> {
        if call.method == "down" {
            return Err(ChannelError::Unavailable("connection refused".to_owned()));
        }
        let mut reply = Reply::http(200, Body::Empty);
        if let Ok(status) = call.method.parse() {
            reply.status = Status::Http(status);
            reply.body = Body::from(Bytes::from("long ".repeat(20)));
            return Ok(reply);
        }
        if call.method == "grpc" {
            let detail = Any {
                type_url: "type.googleapis.com/shop.Why".to_owned(),
                value: Bytes::from_static(b"because"),
            };
            let details = vec![detail.encode_to_vec().into()];
            reply.status = Status::Grpc {
                code: 5,
                message: "no such thing".to_owned(),
                details,
            };
            reply.trailers.insert("x-last", HeaderValue::from_static("words"));
            return Ok(reply);
        }
        let mut names: Vec<&str> = call.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let seen = format!("{} {}?{} {}", call.verb, call.method, call.query, names.join(" "));
        reply
            .headers
            .insert("x-seen", HeaderValue::try_from(seen).unwrap());
        reply
            .headers
            .insert("cache-control", HeaderValue::from_static("no-store"));
        reply.headers.extend(
            call.headers
                .get("content-type")
                .map(|kind| (http::header::CONTENT_TYPE, kind.clone())),
        );
        reply.type_url = call.type_url;
        reply.body = call.body;
        Ok(reply)
    }

    async fn deliver(&self, _event: TopicEvent) -> Result<Outcome, ChannelError> {
        Err(ChannelError::Unimplemented("OnTopicEvent"))
    }

    async fn proxy(&self, request: Request<Body>) -> Result<Response<Body>, ChannelError> {
        Ok(self.proxied.send(request).await?.map(Body::from))
    }

    async fn healthy(&self) -> Result<(), ChannelError> {
        Ok(())
    }
}

/// A gRPC service: answers with the request's own bytes as they come, names of its fields in `x-names`, and trailers.
/// `/shop.Orders/Fail` answers with a status and nothing else, `/shop.Orders/Large` with more than is allowed; `/shop.Orders/Break` breaks off after
/// its first message, `/shop.Orders/Wait` never answers.
pub(super) fn echo(request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    if head.uri.path().ends_with("/Fail") {
        let mut response = Response::new(Body::Empty);
        *response.headers_mut() = wire::grpc_trailers(9, "not today");
        return response;
    }
    if head.uri.path().ends_with("/Large") {
        return Response::new(Body::Full(framed(&vec![7; LIMIT + 1])));
    }
    if head.uri.path().ends_with("/Break") {
        return Response::new(Body::stream(Breaks(Some(framed(b"one")))));
    }
    if head.uri.path().ends_with("/Wait") {
        return Response::new(Body::stream(Waits));
    }
    let mut names: Vec<&str> = head.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    let mut response = Response::new(Body::stream(Echo { body, ended: false }));
    response
        .headers_mut()
        .insert("x-names", HeaderValue::try_from(names.join(" ")).unwrap());
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc+proto"));
    response
}

struct Echo {
    body: Incoming,
    ended: bool,
}

impl HttpBody for Echo {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            Some(Ok(frame)) if frame.is_data() => Poll::Ready(Some(Ok(frame))),
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            _ => {
                this.ended = true;
                let mut trailers = wire::grpc_trailers(0, "");
                trailers.insert("x-after", HeaderValue::from_static("all"));
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
        }
    }
}

struct Breaks(Option<Bytes>);

impl HttpBody for Breaks {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(Some(match self.0.take() {
            Some(message) => Ok(Frame::data(message)),
            None => Err("the app is gone".into()),
        }))
    }
}

struct Waits;

impl HttpBody for Waits {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Pending
    }
}

/// Nobody else is there.
pub(super) struct Alone;

impl Component for Alone {}

#[async_trait::async_trait]
impl NameResolver for Alone {
    async fn resolve(&self, target: &Target) -> Result<Vec<Endpoint>> {
        Err(Error::new(
            Kind::NotFound,
            format!("couldn't find service: {}", target.app_id),
        ))
    }
}

#[async_trait::async_trait]
impl PeerChannel for Alone {
    async fn reach(&self, _at: &Endpoint) -> Result<(), ChannelError> {
        Err(ChannelError::Unavailable("no peers here".to_owned()))
    }

    async fn invoke(
        &self,
        _: &Endpoint,
        _: &Target,
        _: Call,
        _: Option<&Trace>,
    ) -> Result<Reply, ChannelError> {
        Err(ChannelError::Unavailable("no peers here".to_owned()))
    }

    async fn proxy(&self, _: &Endpoint, _: Request<Body>) -> Result<Response<Body>, ChannelError> {
        Err(ChannelError::Unavailable("no peers here".to_owned()))
    }

    fn forget(&self, _: &Endpoint) {}
}

/// Knows every secret but `broken`.
pub(super) struct Vault;

impl Component for Vault {}

#[async_trait::async_trait]
impl SecretStore for Vault {
    fn features(&self) -> secret::Features {
        secret::Features::default()
    }

    async fn get(&self, name: &str, metadata: &Metadata) -> Result<Secret> {
        if name == "broken" {
            return Err(Error::internal("sealed"));
        }
        let version = metadata.get("version").unwrap_or_default();
        Ok(Secret([(name.to_owned(), format!("hush{version}"))].into()))
    }

    async fn all(&self, metadata: &Metadata) -> Result<BTreeMap<String, Secret>> {
        Ok([("a".to_owned(), self.get("a", metadata).await?)].into())
    }
}

/// Says back what it was told, metadata included; fails for `broken`.
pub(super) struct Parrot;

impl Component for Parrot {}

#[async_trait::async_trait]
impl OutputBinding for Parrot {
    fn operations(&self) -> &[&'static str] {
        &["create"]
    }

    async fn invoke(&self, invoke: Invoke) -> Result<Option<Output>, Failed> {
        let mut metadata = invoke.metadata;
        metadata.insert("statusCode", "404");
        if &*invoke.data == b"broken" {
            let error = Error::internal("it is broken");
            return Err(Failed { error, metadata });
        }
        Ok(Some(Output {
            data: invoke.data,
            metadata,
        }))
    }
}

/// Values of `headers` by name, for tables.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
