//! `middleware.http.uppercase`: letters become capitals. For tests of pipelines.
//!
//! COMPAT(cmd/daprd/components/middleware_http_uppercase.go): `direction` is `request` (the default), `response` or `both`.
//! Letters whose capital is several letters stay as they are.

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http_body::{Body as HttpBody, Frame};
use outrigger_component::Component;
use outrigger_component::error::Result;
use outrigger_component::middleware::{Body, HttpMiddleware, Next, Request, Response};
use outrigger_component::options::{Opt, opt};
use outrigger_component::setup::Setup;
use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// What can be written under its `metadata`.
pub(crate) const OPTIONS: &[Opt] = &[opt("direction", "request", "`request`, `response` or `both`")];

#[derive(Debug, serde::Deserialize)]
pub struct Config {
    #[serde(default)]
    pub direction: String,
}

pub struct Uppercase {
    request: bool,
    response: bool,
}

impl Uppercase {
    /// # Errors
    /// None: another direction is taken for `request`.
    pub async fn build(setup: Setup<Config>) -> Result<Self> {
        let direction = setup.config.direction.to_lowercase();
        Ok(Self {
            request: direction != "response",
            response: matches!(direction.as_str(), "response" | "both"),
        })
    }
}

impl Component for Uppercase {}

#[async_trait::async_trait]
impl HttpMiddleware for Uppercase {
    async fn handle(&self, mut request: Request, next: Next<'_>) -> Response {
        if self.request {
            // Capitals may be longer or shorter.
            request.headers_mut().remove(CONTENT_LENGTH);
            request = request.map(capitals);
        }
        let mut response = next.serve(request).await;
        if self.response {
            response.headers_mut().remove(CONTENT_LENGTH);
            response = response.map(capitals);
        }
        response
    }
}

fn capitals(body: Body) -> Body {
    Box::pin(Capitals {
        body,
        begun: BytesMut::new(),
    })
}

struct Capitals {
    body: Body,
    /// The beginning of a letter whose rest is in the next piece; at most 3 bytes.
    begun: BytesMut,
}

impl HttpBody for Capitals {
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        Poll::Ready(match ready!(this.body.as_mut().poll_frame(cx)) {
            Some(Ok(frame)) => Some(Ok(frame.map_data(|data| {
                this.begun.extend_from_slice(&data);
                upper(&mut this.begun)
            }))),
            // What is left was no letter.
            None if !this.begun.is_empty() => Some(Ok(Frame::data(this.begun.split().freeze()))),
            other => other,
        })
    }
}

/// The capitals of what is complete; the rest stays.
fn upper(text: &mut BytesMut) -> Bytes {
    let mut out = Vec::with_capacity(text.len());
    loop {
        let (valid, broken) = match std::str::from_utf8(text) {
            Ok(all) => (all.len(), None),
            Err(error) => (error.valid_up_to(), Some(error.error_len())),
        };
        let piece = text.split_to(valid);
        for letter in String::from_utf8_lossy(&piece).chars() {
            let mut capital = letter.to_uppercase();
            let shown = match (capital.next(), capital.next()) {
                (Some(capital), None) => capital,
                _ => letter,
            };
            out.extend_from_slice(shown.encode_utf8(&mut [0; 4]).as_bytes());
        }
        match broken {
            // Complete, or the beginning of a letter.
            None | Some(None) => return out.into(),
            // Bytes that are no letter stay as they are.
            Some(Some(length)) => out.extend_from_slice(&text.split_to(length)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::upper;
    use bytes::BytesMut;

    #[test]
    fn letters_split_anywhere() {
        let text = "a\u{df}\u{131}\u{4e2d}\u{e4}".as_bytes();
        let mixed = [text, &[0xff, b'b', 0xc3]].concat();
        let expected = ["A\u{df}I\u{4e2d}\u{c4}".as_bytes(), &[0xff, b'B']].concat();
        for cut in 0..=mixed.len() {
            let mut begun = BytesMut::from(&mixed[..cut]);
            let mut out = upper(&mut begun).to_vec();
            begun.extend_from_slice(&mixed[cut..]);
            out.extend_from_slice(&upper(&mut begun));
            assert_eq!((out, &begun[..]), (expected.clone(), &[0xc3][..]), "{cut}");
        }
    }
}
