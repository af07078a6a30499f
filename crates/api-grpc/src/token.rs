//! The API token: who may use the API at all.

use crate::error::Status;
use http::HeaderMap;
use std::fmt;
use subtle::ConstantTimeEq;

/// Carries the token; removed before the request goes on.
pub(crate) const HEADER: &str = "dapr-api-token";
const UNAUTHORIZED: u16 = 401;

/// What a caller must show. `None` inside: nothing.
pub(crate) struct Token(Option<Box<[u8]>>);

impl Token {
    /// An empty text is no token.
    pub(crate) fn new(token: &str) -> Self {
        Self((!token.is_empty()).then(|| token.as_bytes().into()))
    }

    /// Checks and removes the token.
    ///
    /// COMPAT(pkg/api/grpc/auth.go): without a configured token the metadata is left alone.
    pub(crate) fn admit(&self, headers: &mut HeaderMap) -> Result<(), Status> {
        let Some(expected) = &self.0 else { return Ok(()) };
        let Some(shown) = headers.remove(HEADER) else {
            return Err(Status::of_http(
                UNAUTHORIZED,
                "missing api token in request metadata",
            ));
        };
        if bool::from(shown.as_bytes().ct_eq(expected)) {
            Ok(())
        } else {
            Err(Status::of_http(
                UNAUTHORIZED,
                "authentication error: api token mismatch",
            ))
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Token(***)"
        } else {
            "Token(none)"
        })
    }
}
