//! Requests to the app through the middlewares of `spec.appHttpPipeline`.

use super::HttpApp;
use crate::body::Body;
use crate::error::Error;
use http::{Request, Response, StatusCode};
use outrigger_component::middleware::{self, End, Pipeline};
use std::sync::{Mutex, PoisonError};

/// The app's answer, or that of a middleware.
///
/// # Errors
/// The request arrived at the end of the pipeline, and the app could not be asked.
pub(super) async fn send(
    app: &HttpApp,
    pipeline: &Pipeline,
    request: Request<Body>,
) -> Result<Response<Body>, Error> {
    let end = App {
        app,
        failure: Mutex::new(None),
    };
    let request = request.map(|body| Box::pin(body) as middleware::Body);
    let response = pipeline.serve(request, &end).await;
    match end.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(response.map(Body::Stream)),
    }
}

/// What the pipeline leads to.
struct App<'a> {
    app: &'a HttpApp,
    /// Middlewares know answers only: the reason for none goes past them.
    failure: Mutex<Option<Error>>,
}

#[async_trait::async_trait]
impl End for App<'_> {
    async fn serve(&self, request: middleware::Request) -> middleware::Response {
        match self.app.transfer(request.map(Body::Stream)).await {
            Ok(response) => response.map(|body| Box::pin(body) as middleware::Body),
            Err(error) => {
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                middleware::answer(StatusCode::BAD_GATEWAY, "the app could not be reached")
            }
        }
    }
}
