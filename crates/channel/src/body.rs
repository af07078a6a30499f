//! A message body that passes through without being collected or copied, whatever its origin.

mod patient;

pub use patient::{Patient, Silent};

use crate::h2;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Why a body ended early.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

type Stream = Pin<Box<dyn HttpBody<Data = Bytes, Error = Error> + Send>>;

/// Bytes at hand, a stream of one of our servers or clients, or any other stream. Only the last costs an allocation.
#[derive(Default)]
pub enum Body {
    #[default]
    Empty,
    Full(Bytes),
    Incoming(hyper::body::Incoming),
    /// The same with a bound on its pauses.
    Patient(Patient),
    /// An answer out of a pool of HTTP/2 connections.
    Pooled(h2::Answer),
    Stream(Stream),
}

/// Most bytes for which memory is taken before they have arrived.
const AHEAD: usize = 1 << 20;

/// A body was larger than the limit; `Display` gives the limit in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("http: request body too large")]
pub struct TooLarge {
    pub limit: usize,
}

impl Body {
    pub fn stream(body: impl HttpBody<Data = Bytes, Error = Error> + Send + 'static) -> Self {
        Self::Stream(Box::pin(body))
    }

    /// A request's body that fails when nothing of it arrives for `patience` while it is waited for; `None` waits for ever.
    pub fn patient(incoming: hyper::body::Incoming, patience: Option<Duration>) -> Self {
        match patience {
            Some(patience) if !incoming.is_end_stream() => Self::Patient(Patient::new(incoming, patience)),
            _ => incoming.into(),
        }
    }

    /// The whole body, when it is already here.
    pub fn at_hand(&self) -> Option<Bytes> {
        match self {
            Self::Empty => Some(Bytes::new()),
            Self::Full(bytes) => Some(bytes.clone()),
            Self::Incoming(_) | Self::Patient(_) | Self::Pooled(_) | Self::Stream(_) => None,
        }
    }

    /// Exact length in bytes when it is known in advance.
    pub fn length(&self) -> Option<u64> {
        self.size_hint().exact()
    }

    /// Collects the body, up to `limit` bytes. A single frame is handed on without copying.
    pub async fn collect(self, limit: usize) -> Result<Bytes, Error> {
        let mut body = match self {
            Self::Empty => return Ok(Bytes::new()),
            Self::Full(bytes) if bytes.len() <= limit => return Ok(bytes),
            Self::Full(_) => return Err(TooLarge { limit }.into()),
            other => other,
        };
        if body.size_hint().lower() > limit as u64 {
            return Err(TooLarge { limit }.into());
        }
        let mut first: Option<Bytes> = None;
        let mut rest: Vec<u8> = Vec::new();
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let Ok(data) = frame?.into_data() else { continue };
            let so_far = if rest.is_empty() {
                first.as_ref().map_or(0, Bytes::len)
            } else {
                rest.len()
            };
            if so_far + data.len() > limit {
                return Err(TooLarge { limit }.into());
            }
            match first.as_ref() {
                None => first = Some(data),
                Some(head) => {
                    if rest.is_empty() {
                        // An announced length is only a promise: memory is not taken for all of it at once.
                        let expected = usize::try_from(body.size_hint().lower())
                            .unwrap_or(0)
                            .min(limit)
                            .min(AHEAD);
                        rest.reserve(head.len() + data.len() + expected);
                        rest.extend_from_slice(head);
                    }
                    rest.extend_from_slice(&data);
                }
            }
        }
        Ok(if rest.is_empty() {
            first.unwrap_or_default()
        } else {
            rest.into()
        })
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                if bytes.is_empty() {
                    Poll::Ready(None)
                } else {
                    Poll::Ready(Some(Ok(Frame::data(bytes))))
                }
            }
            Self::Incoming(incoming) => Pin::new(incoming).poll_frame(cx).map_err(Into::into),
            Self::Patient(patient) => Pin::new(patient).poll_frame(cx),
            Self::Pooled(answer) => Pin::new(answer).poll_frame(cx),
            Self::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Incoming(incoming) => incoming.is_end_stream(),
            Self::Patient(patient) => patient.is_end_stream(),
            Self::Pooled(answer) => answer.is_end_stream(),
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Incoming(incoming) => incoming.size_hint(),
            Self::Patient(patient) => patient.size_hint(),
            Self::Pooled(answer) => answer.size_hint(),
            Self::Stream(stream) => stream.size_hint(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Self::Empty
        } else {
            Self::Full(bytes)
        }
    }
}

impl From<hyper::body::Incoming> for Body {
    fn from(incoming: hyper::body::Incoming) -> Self {
        if incoming.is_end_stream() {
            Self::Empty
        } else {
            Self::Incoming(incoming)
        }
    }
}

impl From<h2::Answer> for Body {
    fn from(answer: h2::Answer) -> Self {
        if answer.is_end_stream() {
            Self::Empty
        } else {
            Self::Pooled(answer)
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Self::Incoming(_) => f.write_str("Incoming"),
            Self::Patient(_) => f.write_str("Patient"),
            Self::Pooled(_) => f.write_str("Pooled"),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}
