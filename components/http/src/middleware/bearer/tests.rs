use super::{AGAIN, Bearer, FRESH};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use outrigger_component::error::Result;
use outrigger_component::middleware::{Body as Piece, End, HttpMiddleware, Pipeline, answer};
use outrigger_component::middleware::{Request as Piped, Response as Answer};
use outrigger_component::registry::Registry;
use outrigger_testkit::app::App;
use outrigger_testkit::client::{Body, full};
use outrigger_testkit::setup::setup;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

/// One key of the issuer, with which tokens are signed.
enum Signer {
    Ed25519(&'static str, Ed25519KeyPair),
    P256(&'static str, EcdsaKeyPair),
}

impl Signer {
    fn ed25519(id: &'static str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(id, Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
    }

    fn p256(id: &'static str) -> Self {
        let signing = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(signing, &SystemRandom::new()).unwrap();
        Self::P256(id, EcdsaKeyPair::from_pkcs8(signing, document.as_ref()).unwrap())
    }

    fn public(&self) -> Value {
        match self {
            Self::Ed25519(id, pair) => json!({
                "kty": "OKP", "crv": "Ed25519", "kid": id, "use": "sig",
                "x": BASE64.encode(pair.public_key()),
            }),
            Self::P256(id, pair) => {
                let point = pair.public_key().as_ref();
                json!({
                    "kty": "EC", "crv": "P-256", "kid": id, "alg": "ES256",
                    "x": BASE64.encode(&point[1..33]), "y": BASE64.encode(&point[33..65]),
                })
            }
        }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let text = format!(
            "{}.{}",
            BASE64.encode(header.to_string()),
            BASE64.encode(claims.to_string())
        );
        let signature = match self {
            Self::Ed25519(_, pair) => pair.sign(text.as_bytes()).as_ref().to_vec(),
            Self::P256(_, pair) => pair
                .sign(&SystemRandom::new(), text.as_bytes())
                .unwrap()
                .as_ref()
                .to_vec(),
        };
        format!("{text}.{}", BASE64.encode(signature))
    }
}

/// An issuer whose keys can be exchanged.
struct Issuer {
    app: App,
    keys: Arc<Mutex<Option<Value>>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    async fn start(keys: Value) -> Self {
        let keys = Arc::new(Mutex::new(Some(keys)));
        let asked = Arc::new(AtomicUsize::new(0));
        let (served, counted) = (Arc::clone(&keys), Arc::clone(&asked));
        let app = App::start(0, move |request: Request<Incoming>| {
            let host = request.headers()["host"].to_str().unwrap().to_owned();
            let keys = served.lock().unwrap().clone();
            let (status, body) = match (request.uri().path(), keys) {
                ("/keys", Some(keys)) => {
                    counted.fetch_add(1, Ordering::Relaxed);
                    (200, keys)
                }
                ("/.well-known/openid-configuration", Some(_)) => (
                    200,
                    json!({"issuer": format!("http://{host}"), "jwks_uri": format!("http://{host}/keys")}),
                ),
                _ => (503, Value::Null),
            };
            let answer: Response<Body> = Response::builder()
                .status(status)
                .body(full(body.to_string()))
                .unwrap();
            std::future::ready(answer)
        })
        .await;
        Self { app, keys, asked }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.app.port())
    }
}

async fn build(metadata: &[(&str, &str)]) -> Result<Arc<dyn HttpMiddleware>> {
    let mut registry = Registry::default();
    registry.middleware("bearer", Bearer::build);
    registry.middlewares().build("bearer", "", setup(metadata)).await
}

struct Inside;

#[async_trait::async_trait]
impl End for Inside {
    async fn serve(&self, _request: Piped) -> Answer {
        answer(StatusCode::OK, "inside")
    }
}

async fn status(middleware: &Arc<dyn HttpMiddleware>, authorization: Option<&str>) -> u16 {
    let pipeline = Pipeline::new(vec![Arc::clone(middleware)]).unwrap();
    let empty: Piece = answer(StatusCode::OK, "").into_body();
    let mut request = Request::new(empty);
    let mut headers = HeaderMap::new();
    if let Some(value) = authorization {
        headers.insert("authorization", value.parse().unwrap());
    }
    *request.headers_mut() = headers;
    pipeline.serve(request, &Inside).await.status().as_u16()
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

#[tokio::test]
async fn only_valid_tokens_pass() {
    let (ed, ec, stranger) = (
        Signer::ed25519("one"),
        Signer::p256("two"),
        Signer::ed25519("one"),
    );
    let issuer = Issuer::start(
        json!({"keys": [ed.public(), ec.public(), {"kty": "oct", "kid": "three", "k": "AAAA"}]}),
    )
    .await;
    let url = issuer.url();
    let bearer = build(&[("issuer", &url), ("audience", "us")]).await.unwrap();
    let good = json!({"iss": url, "aud": "us", "exp": now() + 60, "nbf": now() - 60, "iat": now()});
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let ed_header = json!({"alg": "EdDSA", "kid": "one"});
    for (what, signer, header, claims, expected) in [
        ("ed25519", &ed, ed_header.clone(), good.clone(), 200),
        (
            "p256",
            &ec,
            json!({"alg": "ES256", "kid": "two"}),
            good.clone(),
            200,
        ),
        (
            "several audiences",
            &ed,
            ed_header.clone(),
            with("aud", json!(["them", "us"])),
            200,
        ),
        (
            "no times",
            &ed,
            ed_header.clone(),
            json!({"iss": url, "aud": "us"}),
            200,
        ),
        (
            "a little late",
            &ed,
            ed_header.clone(),
            with("exp", json!(now() - 200)),
            200,
        ),
        (
            "late",
            &ed,
            ed_header.clone(),
            with("exp", json!(now() - 400)),
            401,
        ),
        (
            "early",
            &ed,
            ed_header.clone(),
            with("nbf", json!(now() + 400)),
            401,
        ),
        (
            "from the future",
            &ed,
            ed_header.clone(),
            with("iat", json!(now() + 400)),
            401,
        ),
        (
            "another issuer",
            &ed,
            ed_header.clone(),
            with("iss", json!("http://evil")),
            401,
        ),
        (
            "another audience",
            &ed,
            ed_header.clone(),
            with("aud", json!("them")),
            401,
        ),
        (
            "no audience",
            &ed,
            ed_header.clone(),
            with("aud", Value::Null),
            401,
        ),
        ("another key", &stranger, ed_header.clone(), good.clone(), 401),
        (
            "no signature",
            &ed,
            json!({"alg": "none", "kid": "one"}),
            good.clone(),
            401,
        ),
        (
            "another algorithm",
            &ec,
            json!({"alg": "ES384", "kid": "two"}),
            good.clone(),
            401,
        ),
        (
            "a key that is public",
            &ed,
            json!({"alg": "HS256", "kid": "three"}),
            good.clone(),
            401,
        ),
        ("no key named", &ed, json!({"alg": "EdDSA"}), good.clone(), 401),
        (
            "unknown extension",
            &ed,
            json!({"alg": "EdDSA", "kid": "one", "crit": ["x"]}),
            good.clone(),
            401,
        ),
        (
            "time as text",
            &ed,
            ed_header.clone(),
            with("exp", json!("soon")),
            401,
        ),
    ] {
        let token = format!("Bearer {}", signer.sign(&header, &claims));
        assert_eq!(status(&bearer, Some(&token)).await, expected, "{what}");
    }
    let token = ed.sign(&ed_header, &good);
    let mut changed = token.clone();
    changed.replace_range(token.find('.').unwrap() + 5..token.find('.').unwrap() + 6, "_");
    let cut = token.rsplit_once('.').unwrap().0;
    for (header, expected) in [
        (None, 401),
        (Some(format!("bEARER {token}")), 200),
        (Some(token.clone()), 401),
        (Some(format!("Basic {token}")), 401),
        (Some("Bearer short".to_owned()), 401),
        (Some("Bearer a.b.c.d.e.f.g".to_owned()), 401),
        (Some(format!("Bearer {changed}")), 401),
        (Some(format!("Bearer {cut}.")), 401),
        (Some(format!("Bearer {cut}")), 401),
    ] {
        assert_eq!(status(&bearer, header.as_deref()).await, expected, "{header:?}");
    }
}

#[tokio::test]
async fn keys_are_exchanged_and_survive_their_issuer() {
    let (old, new) = (Signer::ed25519("old"), Signer::ed25519("new"));
    let issuer = Issuer::start(json!({"keys": [old.public()]})).await;
    let keys_at = format!("{}/keys", issuer.url());
    let metadata = [
        ("issuerURL", "i"),
        ("clientID", "us"),
        ("jwksURL", keys_at.as_str()),
    ];
    let bearer = build(&metadata).await.unwrap();
    let claims = json!({"iss": "i", "aud": "us"});
    let token = |signer: &Signer, id: &str| {
        format!(
            "Bearer {}",
            signer.sign(&json!({"alg": "EdDSA", "kid": id}), &claims)
        )
    };
    let (with_old, with_new) = (token(&old, "old"), token(&new, "new"));
    let asked = || issuer.asked.load(Ordering::Relaxed);
    assert_eq!((status(&bearer, Some(&with_old)).await, asked()), (200, 1));

    *issuer.keys.lock().unwrap() = Some(json!({"keys": [new.public()]}));
    // A key that was not in the set a moment ago is not asked for again and again.
    assert_eq!((status(&bearer, Some(&with_new)).await, asked()), (401, 1));
    tokio::time::pause();
    tokio::time::advance(AGAIN).await;
    tokio::time::resume();
    assert_eq!((status(&bearer, Some(&with_new)).await, asked()), (200, 2));
    assert_eq!((status(&bearer, Some(&with_old)).await, asked()), (401, 2));

    // The issuer is gone: what is known goes on.
    *issuer.keys.lock().unwrap() = None;
    tokio::time::pause();
    tokio::time::advance(FRESH).await;
    tokio::time::resume();
    assert_eq!(status(&bearer, Some(&with_new)).await, 200);
    *issuer.keys.lock().unwrap() = Some(json!({"keys": [old.public()]}));
    tokio::time::pause();
    tokio::time::advance(AGAIN).await;
    tokio::time::resume();
    assert_eq!(status(&bearer, Some(&with_new)).await, 401);
    assert_eq!(status(&bearer, Some(&with_old)).await, 200);
}

#[tokio::test]
async fn starts_that_fail() {
    let issuer = Issuer::start(json!({"keys": []})).await;
    let url = issuer.url();
    let slash = format!("{url}/");
    let nowhere = format!("{url}/nothing");
    let document = format!("{url}/.well-known/openid-configuration");
    for (metadata, expected) in [
        (&[][..], "metadata property 'issuer' is required"),
        (&[("issuer", "i")], "metadata property 'audience' is required"),
        (
            &[("issuer", &*slash), ("audience", "us")],
            "doesn't match the one provided",
        ),
        (
            &[("issuer", &*nowhere), ("audience", "us")],
            "failed to retrieve OpenID Configuration document: invalid response status code: 503",
        ),
        (
            &[("issuer", "i"), ("audience", "us"), ("jwksURL", &*nowhere)],
            "failed to fetch JWKS: invalid response status code: 503",
        ),
        (
            &[("issuer", "i"), ("audience", "us"), ("jwksURL", &*document)],
            "did not answer with a JSON Web Key Set",
        ),
    ] {
        let error = build(metadata).await.err().unwrap().to_string();
        assert!(error.contains(expected), "{metadata:?}: {error}");
    }
}
