//! gRPC reflection: tools such as grpcurl ask a door what it serves.
//!
//! Made anew for each call: nobody asks twice a minute, and nothing is kept for those who never ask.

use http::{Request, Response};
use hyper::body::Incoming;
use outrigger_channel::body::Body;
use outrigger_proto::dapr::DESCRIPTORS;
use tonic::codegen::Service;
use tonic_reflection::server::Builder;

const V1: &str = "/grpc.reflection.v1.ServerReflection/";
const V1ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/";

pub(crate) fn serves(path: &str) -> bool {
    path.starts_with(V1) || path.starts_with(V1ALPHA)
}

/// Answers for a door that serves `service`.
pub(crate) async fn answer(request: Request<Incoming>, service: &str) -> Response<Body> {
    let builder = Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .with_service_name(service);
    let readable = "our own descriptors can be read, which a test sees to";
    if request.uri().path().starts_with(V1) {
        call(builder.build_v1().expect(readable), request).await
    } else {
        call(builder.build_v1alpha().expect(readable), request).await
    }
}

async fn call<S>(mut service: S, request: Request<Incoming>) -> Response<Body>
where
    S: Service<Request<Incoming>, Response = Response<tonic::body::Body>, Error = std::convert::Infallible>,
{
    match service.call(request).await {
        Ok(response) => response.map(|body| Body::stream(Foreign(body))),
    }
}

/// Tonic's body, with errors as ours.
struct Foreign(tonic::body::Body);

impl http_body::Body for Foreign {
    type Data = bytes::Bytes;
    type Error = outrigger_channel::body::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
        std::pin::Pin::new(&mut self.get_mut().0)
            .poll_frame(cx)
            .map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}
