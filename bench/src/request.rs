//! What a load sends, and what counts as a right answer to it.

use crate::client::Protocol;
use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;

/// Names the app that a gRPC call is for.
const CALLEE: HeaderName = HeaderName::from_static("dapr-app-id");
/// Size of every payload but the large one: of the echo's body, of an event's data, of a stored value.
pub(crate) const PAYLOAD: usize = 1024;
/// Size of the bodies that show how streaming goes.
pub(crate) const LARGE: usize = 100 << 20;
/// A method of the app's that answers what it is asked with.
pub(crate) const GRPC_ECHO: &str = "/bench.Echo/Echo";
/// Events of one bulk publish.
pub(crate) const BULK: usize = 100;
/// State loads go round this many keys.
pub(crate) const KEYS: u64 = 1000;

/// The keys by which the app finds the stamp in an event, whatever envelope is around it. Both values are strings: a JSON
/// number of this size does not survive a runtime that reads numbers as doubles.
pub(crate) const AT: &str = "\"bench_at\":\"";
pub(crate) const SEQUENCE: &str = "\"bench_seq\":\"";

/// A kind of request, with what is the same in each.
pub(crate) struct Source {
    kind: Kind,
    host: HeaderValue,
    uris: Vec<Uri>,
    body: Bytes,
    /// The app that a gRPC call is passed on to; none for the app itself.
    callee: Option<HeaderValue>,
}

enum Kind {
    Echo,
    Work,
    Grpc,
    Publish,
    PublishBulk,
    Get,
    Set,
}

impl Source {
    /// POST of a payload to `path`, answered with the same.
    pub(crate) fn echo(path: &str) -> Self {
        Self::new(
            Kind::Echo,
            vec![path.to_owned()],
            Bytes::from(vec![b'x'; PAYLOAD]),
        )
    }

    /// POST of a payload to `path`, answered with the same unless there is too much to do.
    pub(crate) fn work(path: &str) -> Self {
        Self {
            kind: Kind::Work,
            ..Self::echo(path)
        }
    }

    /// POST of [`LARGE`] bytes to `path`, answered with the same.
    pub(crate) fn large(path: &str) -> Self {
        Self::new(Kind::Echo, vec![path.to_owned()], Bytes::from(vec![b'x'; LARGE]))
    }

    /// A unary gRPC call of a payload, answered with the same; for `callee` when it goes through sidecars.
    pub(crate) fn grpc(callee: Option<&str>) -> Self {
        let mut message = vec![0; 5];
        message[1..].copy_from_slice(&(PAYLOAD as u32).to_be_bytes());
        message.extend(std::iter::repeat_n(b'x', PAYLOAD));
        let mut source = Self::new(
            Kind::Grpc,
            vec![format!("http://127.0.0.1{GRPC_ECHO}")],
            Bytes::from(message),
        );
        source.callee = callee.and_then(|callee| callee.parse().ok());
        source
    }

    pub(crate) fn protocol(&self) -> Protocol {
        match self.kind {
            Kind::Grpc => Protocol::Http2,
            _ => Protocol::Http1,
        }
    }

    /// POST of an event whose data says when it was due and which one it is.
    pub(crate) fn publish(pubsub: &str, topic: &str) -> Self {
        Self::new(
            Kind::Publish,
            vec![format!("/v1.0/publish/{pubsub}/{topic}")],
            Bytes::new(),
        )
    }

    /// POST of [`BULK`] events.
    pub(crate) fn publish_bulk(pubsub: &str, topic: &str) -> Self {
        Self::new(
            Kind::PublishBulk,
            vec![format!("/v1.0/publish/bulk/{pubsub}/{topic}")],
            bulk(),
        )
    }

    /// GET of one key after the other.
    pub(crate) fn get(store: &str) -> Self {
        let uris = (0..KEYS)
            .map(|key| format!("/v1.0/state/{store}/{}", key_name(key)))
            .collect();
        Self::new(Kind::Get, uris, Bytes::new())
    }

    /// POST that sets one key after the other.
    pub(crate) fn set(store: &str) -> Self {
        Self::new(Kind::Set, vec![format!("/v1.0/state/{store}")], Bytes::new())
    }

    fn new(kind: Kind, uris: Vec<String>, body: Bytes) -> Self {
        let uris = uris
            .iter()
            .map(|uri| uri.parse().expect("paths are made of our own literals"))
            .collect();
        Self {
            kind,
            host: HeaderValue::from_static("127.0.0.1"),
            uris,
            body,
            callee: None,
        }
    }

    /// The request numbered `sequence`, due at `at` (nanoseconds of the monotonic clock).
    pub(crate) fn request(&self, sequence: u64, at: u64) -> Request<Full<Bytes>> {
        let index = usize::try_from(sequence).unwrap_or_default() % self.uris.len();
        let body = match self.kind {
            Kind::Echo | Kind::Work | Kind::Grpc | Kind::PublishBulk => self.body.clone(),
            Kind::Publish => event(sequence, at),
            Kind::Get => Bytes::new(),
            Kind::Set => write(sequence % KEYS),
        };
        let mut request = Request::new(Full::new(body));
        *request.uri_mut() = self.uris[index].clone();
        if matches!(self.kind, Kind::Grpc) {
            *request.method_mut() = Method::POST;
            let headers = request.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            headers.extend(self.callee.clone().map(|callee| (CALLEE, callee)));
            return request;
        }
        request.headers_mut().insert(header::HOST, self.host.clone());
        if !matches!(self.kind, Kind::Get) {
            *request.method_mut() = Method::POST;
            request
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        request
    }

    /// Whether an answer is a refusal as it should be, of a request that may be refused: one that says when to come back.
    pub(crate) fn is_refusal(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        matches!(self.kind, Kind::Work)
            && status == StatusCode::SERVICE_UNAVAILABLE
            && headers.contains_key(header::RETRY_AFTER)
    }

    /// Whether status and length of an answer are what a working contender gives.
    pub(crate) fn accepts(&self, status: StatusCode, length: usize) -> bool {
        match self.kind {
            Kind::Echo | Kind::Work | Kind::Grpc => status == StatusCode::OK && length == self.body.len(),
            Kind::Get => status == StatusCode::OK && length == PAYLOAD + 2,
            // A part of them answers 500.
            Kind::Publish | Kind::PublishBulk | Kind::Set => status.is_success(),
        }
    }
}

/// Events of [`PAYLOAD`] each; the same in every request, as nobody receives them.
fn bulk() -> Bytes {
    let data = String::from_utf8_lossy(&event(0, 0)).into_owned();
    let entry =
        |number| format!(r#"{{"entryId":"{number}","event":{data},"contentType":"application/json"}}"#);
    let entries: Vec<String> = (0..BULK).map(entry).collect();
    Bytes::from(format!("[{}]", entries.join(",")))
}

/// What a set writes and a get expects: a JSON string of [`PAYLOAD`] characters.
fn write(key: u64) -> Bytes {
    let value = "v".repeat(PAYLOAD);
    Bytes::from(format!(r#"[{{"key":"{}","value":"{value}"}}]"#, key_name(key)))
}

fn key_name(key: u64) -> String {
    format!("bench-{key:04}")
}

fn event(sequence: u64, at: u64) -> Bytes {
    let mut data = String::with_capacity(PAYLOAD);
    data.push('{');
    data.push_str(AT);
    data.push_str(&at.to_string());
    data.push_str("\",");
    data.push_str(SEQUENCE);
    data.push_str(&sequence.to_string());
    data.push_str(r#"","fill":""#);
    let fill = PAYLOAD - data.len() - 2;
    data.extend(std::iter::repeat_n('x', fill));
    data.push_str("\"}");
    Bytes::from(data)
}

#[cfg(test)]
mod tests {
    use super::{BULK, PAYLOAD, bulk, event, write};

    #[test]
    fn an_event_is_json_of_the_stated_size() {
        for (sequence, at) in [(0, 0), (7, 1_234_567), (u64::MAX, u64::MAX)] {
            let body = event(sequence, at);
            assert_eq!(body.len(), PAYLOAD);
            let data: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(data["bench_at"], at.to_string());
            assert_eq!(data["bench_seq"], sequence.to_string());
        }
    }

    #[test]
    fn a_bulk_is_a_list_of_different_entries() {
        let entries: Vec<serde_json::Value> = serde_json::from_slice(&bulk()).unwrap();
        assert_eq!(entries.len(), BULK);
        assert_eq!(entries[99]["entryId"], "99");
        assert_eq!(entries[7]["event"].to_string().len(), PAYLOAD);
    }

    #[test]
    fn a_write_is_a_list_of_one_item() {
        let items: serde_json::Value = serde_json::from_slice(&write(7)).unwrap();
        assert_eq!(items[0]["key"], "bench-0007");
        assert_eq!(items[0]["value"].as_str().unwrap().len(), PAYLOAD);
    }
}
