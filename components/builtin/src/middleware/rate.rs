//! `middleware.http.ratelimit`: so many requests per second for each caller and path, more get 429.
//!
//! A bucket of tokens per caller and path, filled evenly and at most with one second's worth (at least one).
//! INVARIANT: there are never more than [`MOST`] buckets; when that is reached, those that are full again go first, since a
//! new one would be full, too.
//!
//! COMPAT(components-contrib middleware/http/ratelimit, tollbooth): what tells callers apart, status, text and headers.

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use outrigger_component::Component;
use outrigger_component::error::{Error, Result};
use outrigger_component::middleware::{HttpMiddleware, Next, Request, Response, answer};
use outrigger_component::options::{Opt, opt};
use outrigger_component::setup::Setup;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;

/// Buckets kept at most.
const MOST: usize = 10_000;
const TEXT: &str = "You have reached maximum request limit.";

/// What can be written under its `metadata`.
pub(crate) const OPTIONS: &[Opt] = &[opt("maxRequestsPerSecond", "100", "may be a fraction")];

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    #[serde(default = "hundred")]
    pub max_requests_per_second: f64,
}

fn hundred() -> f64 {
    100.0
}

pub struct Rate {
    per_second: f64,
    buckets: Mutex<HashMap<(IpAddr, Box<str>), Bucket>>,
}

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Rate {
    /// # Errors
    /// `Invalid` for a rate that is not positive.
    pub async fn build(setup: Setup<Config>) -> Result<Self> {
        let per_second = setup.config.max_requests_per_second;
        if !(per_second > 0.0 && per_second.is_finite()) {
            return Err(Error::invalid(
                "metadata property maxRequestsPerSecond must be a positive value",
            ));
        }
        Ok(Self {
            per_second,
            buckets: Mutex::default(),
        })
    }

    fn admits(&self, caller: IpAddr, path: &str) -> bool {
        let now = Instant::now();
        let most = self.per_second.max(1.0);
        let filled = |bucket: &Bucket| {
            let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
            (bucket.tokens + passed * self.per_second).min(most)
        };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (caller, Box::from(path));
        if buckets.len() >= MOST && !buckets.contains_key(&key) {
            buckets.retain(|_, bucket| filled(bucket) < most);
            if buckets.len() >= MOST {
                // All of them are in use: who comes new waits for a place.
                return false;
            }
        }
        let bucket = buckets.entry(key).or_insert(Bucket {
            tokens: most,
            at: now,
        });
        let tokens = filled(bucket);
        let admitted = tokens >= 1.0;
        *bucket = Bucket {
            tokens: if admitted { tokens - 1.0 } else { tokens },
            at: now,
        };
        admitted
    }

    fn describe(&self, headers: &mut HeaderMap, caller: IpAddr) {
        let mut add = |name: &'static str, value: String| {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        add("x-rate-limit-limit", format!("{:.2}", self.per_second));
        add("x-rate-limit-duration", "1".to_owned());
        add("x-rate-limit-request-remote-addr", caller.to_string());
    }
}

impl Component for Rate {}

#[async_trait::async_trait]
impl HttpMiddleware for Rate {
    async fn handle(&self, request: Request, next: Next<'_>) -> Response {
        // Who calls over a unix socket, and the app's own sidecar, have no address.
        let caller = request
            .extensions()
            .get::<SocketAddr>()
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
        let mut response = if self.admits(caller, request.uri().path()) {
            next.serve(request).await
        } else {
            answer(StatusCode::TOO_MANY_REQUESTS, TEXT)
        };
        self.describe(response.headers_mut(), caller);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, Rate};
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    fn rate(per_second: f64) -> Rate {
        Rate {
            per_second,
            buckets: Default::default(),
        }
    }

    const ME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

    fn admitted(rate: &Rate, caller: IpAddr, path: &str) -> usize {
        (0..100).filter(|_| rate.admits(caller, path)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_per_second_for_each() {
        let ten = rate(10.0);
        assert_eq!(admitted(&ten, ME, "/a"), 10);
        assert_eq!(admitted(&ten, ME, "/b"), 10);
        assert_eq!(admitted(&ten, OTHER, "/a"), 10);
        tokio::time::sleep(Duration::from_millis(350)).await;
        assert_eq!(admitted(&ten, ME, "/a"), 3);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(admitted(&ten, ME, "/a"), 10);
        let seldom = rate(0.1);
        assert_eq!(admitted(&seldom, ME, "/"), 1);
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert_eq!(admitted(&seldom, ME, "/"), 0);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(admitted(&seldom, ME, "/"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let two = rate(2.0);
        for number in 0..MOST + 10 {
            assert_eq!(two.admits(ME, &number.to_string()), number < MOST);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(two.admits(ME, "new"));
        assert_eq!(two.buckets.lock().unwrap().len(), 1);
    }
}
