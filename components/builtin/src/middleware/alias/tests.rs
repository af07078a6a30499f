use super::{Alias, decode};

#[test]
fn paths_stand_for_others() {
    let routes = r#"{
        "/hello": "/v1.0/invoke/a/method/hi",
        "/with space": "/to there?",
        "/people/{name}/mail/{number:[0-9]{2,}}": "/mail",
        "/files/{rest:.*}": "/all",
        "/files/one": "/one"
    }"#;
    let alias = Alias::of(decode(routes).unwrap()).unwrap();
    for (from, expected) in [
        ("/hello", Some("/v1.0/invoke/a/method/hi")),
        ("/hello?a=b&c", Some("/v1.0/invoke/a/method/hi?a=b&c")),
        ("/with%20space", Some("/to%20there%3F")),
        ("/hello/", None),
        ("/", None),
        ("/people/ann/mail/12", Some("/mail?name=ann&number=12")),
        (
            "/people/a%26b/mail/12?z=1&a=x+y",
            Some("/mail?a=x+y&name=a%26b&number=12&z=1"),
        ),
        ("/people/ann/mail/1", None),
        ("/people/ann/b/mail/12", None),
        ("/files/one", Some("/one")),
        ("/files/a/b", Some("/all?rest=a%2Fb")),
    ] {
        let found = alias.replace(&from.parse().unwrap());
        assert_eq!(found.as_deref(), expected, "{from}");
    }
}

#[test]
fn routes_in_json_and_yaml() {
    let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let expected = vec![pair("/a", "/b"), pair("/c/{d}", "/e")];
    for text in [
        r#"{"/c/{d}": "/e", "/a": "/b"}"#,
        "{\n\t  \"/c/{d}\": \"/e\",\n\t\t\"/a\": \"/b\"\n}",
        "/a: /b\n\"/c/{d}\": /e\n",
    ] {
        assert_eq!(decode(text).unwrap(), expected, "{text}");
    }
    for text in ["[]", "{\"/a\": [1]}", "\"x"] {
        let error = decode(text).unwrap_err().to_string();
        assert!(error.starts_with("failed to decode 'routes' property"), "{error}");
    }
}

#[test]
fn patterns_that_cannot_be() {
    for (from, to, expected) in [
        ("", "/b", "must not be empty"),
        ("/a", "", "must not be empty"),
        ("/{a", "/b", "a { has no }"),
        ("/{}", "/b", "needs a name"),
        ("/{a:[}", "/b", "route \"/{a:[}\""),
        ("/{a:(b)}", "/b", "groups of its own"),
    ] {
        let error = Alias::of([(from.to_owned(), to.to_owned())]).err().unwrap();
        assert!(error.to_string().contains(expected), "{from}: {error}");
    }
}
