use super::{Address, address, answer};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use outrigger_channel::call::{Reply, Status};

#[test]
fn three_ways_to_name_an_app() {
    let basic = "Basic ZGFwci1hcHAtaWQ6c2hvcA=="; // dapr-app-id:shop
    type Pair<'r> = (&'r str, &'r str);
    let cases: [(&str, &[Pair<'_>], Option<Pair<'_>>); 19] = [
        ("/v1.0/invoke/shop/method/orders", &[], Some(("shop", "orders"))),
        (
            "/v1.0////invoke//shop/method//orders/1",
            &[],
            Some(("shop", "/orders/1")),
        ),
        ("/v1.0/invoke/shop/method/", &[], Some(("shop", ""))),
        (
            "/v1.0/invoke/shop.other/method/a/method/b",
            &[],
            Some(("shop.other", "a/method/b")),
        ),
        (
            "/v1.0/invoke/http://localhost:1/method/x",
            &[],
            Some(("http://localhost:1", "x")),
        ),
        (
            "/v1.0/invoke/http%3A%2F%2Fhost/method/x",
            &[],
            Some(("http://host", "x")),
        ),
        ("/v1.0/invoke/shop/method", &[], None),
        ("/v1.0/invoke/shop", &[], None),
        ("/v1.0/invoke//method/x", &[], None),
        ("/v1.0/other", &[], None),
        ("/v1.0-alpha1/invoke/shop/method/x", &[], None),
        ("/", &[], None),
        ("///foo", &[("dapr-app-id", "shop")], Some(("shop", "foo"))),
        ("/", &[("dapr-app-id", "shop")], Some(("shop", ""))),
        (
            "/admin/../public",
            &[("dapr-app-id", "shop")],
            Some(("shop", "public")),
        ),
        ("/foo", &[("dapr-app-id", "")], None),
        ("/foo", &[("authorization", basic)], Some(("shop", "foo"))),
        ("/foo", &[("authorization", "Basic bm90IGl0")], None),
        ("/foo", &[("authorization", "Basic %%%")], None),
    ];
    for (path, given, expected) in cases {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.insert(
                HeaderName::try_from(*name).unwrap(),
                HeaderValue::try_from(*value).unwrap(),
            );
        }
        let expected = expected.map(|(app, method)| Address {
            app: app.into(),
            method: method.to_owned(),
        });
        assert_eq!(address(path, &mut headers).ok(), expected, "{path} {given:?}");
        assert!(
            !headers.contains_key("dapr-app-id"),
            "it is ours and goes no further"
        );
    }
}

#[test]
fn answers() {
    let grpc = |code| Status::Grpc {
        code,
        message: "gone".to_owned(),
        details: Vec::new(),
    };
    for (status, code, body) in [
        (Status::Http(200), 200, "x"),
        (Status::Http(418), 418, "x"),
        (grpc(0), 200, "x"),
        (grpc(5), 404, r#"{"code":5,"message":"gone"}"#),
        (grpc(99), 500, r#"{"code":99,"message":"gone"}"#),
    ] {
        let mut reply = Reply::http(200, Bytes::from_static(b"x"));
        reply.status = status.clone();
        for (name, value) in [
            ("x-own", "1"),
            ("connection", "x-nominated"),
            ("x-nominated", "2"),
            ("upgrade", "h2c"),
            ("destination-app-id", "shop"),
            ("trace-bin", "3"),
            ("grpc-encoding", "4"),
            ("content-length", "77"),
        ] {
            reply
                .headers
                .append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let response = answer(reply);
        assert_eq!(response.status().as_u16(), code, "{status:?}");
        assert_eq!(response.body().at_hand().unwrap(), body, "{status:?}");
        let mut names: Vec<_> = response
            .headers()
            .keys()
            .map(HeaderName::as_str)
            .filter(|name| *name != "content-type")
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["dapr-grpc-encoding", "x-own"], "{status:?}");
    }
}
