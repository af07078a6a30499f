use super::Routes;
use outrigger_channel::app::Rule;

fn routes(rules: &[(&str, &str)]) -> Result<Routes, super::Invalid> {
    let rules: Vec<Rule> = rules
        .iter()
        .map(|(expression, path)| Rule {
            expression: (*expression).to_owned(),
            path: (*path).to_owned(),
        })
        .collect();
    Routes::compile(&rules)
}

const EVENT: &str = r#"{"id":"1","type":"order.new","topic":"t","data":{"amount":12,"price":1.5,"tags":["a","b"],"who":{"name":"Ann"},"ok":true,"none":null}}"#;

#[test]
fn expression_table() {
    let rows: &[(&str, bool)] = &[
        (r#"event.type == "order.new""#, true),
        (r#"event.type == 'order.old'"#, false),
        ("event.data.amount > 10", true),
        ("event.data.amount == 12", true),
        ("event.data.amount < 10.5", false),
        ("event.data.amount + 0.5 == 12.5", true),
        ("event.data.price == 1.5", true),
        (r#""a" in event.data.tags"#, true),
        (r#"event.data.tags[0] == "a""#, true),
        ("size(event.data.tags) == 2", true),
        (r#"event.data.who.name.startsWith("A")"#, true),
        (r#"event.type.matches("^order\\..*$")"#, true),
        (r#"event.data.who["name"].contains("x")"#, false),
        ("has(event.data.missing)", false),
        (r#"has(event.data.missing) && event.data.missing == 1"#, false),
        ("event.data.ok", true),
        ("event.data.none == null", true),
        ("!event.data.ok || event.topic == 't'", true),
        ("event.data.tags.exists(t, t == 'b')", true),
        ("true", true),
        ("  ", true),
    ];
    for (expression, expected) in rows {
        let routes = routes(&[(expression, "/yes"), ("", "/no")]).unwrap();
        let path = routes.pick(EVENT.as_bytes()).unwrap();
        assert_eq!(path, Some(if *expected { "/yes" } else { "/no" }), "{expression}");
    }
}

#[test]
fn order_and_defaults_table() {
    type Row = (&'static [(&'static str, &'static str)], Option<&'static str>);
    let rows: &[Row] = &[
        (&[], None),
        (&[("", "/a")], Some("/a")),
        (&[("", "/a"), ("true", "/b")], Some("/a")),
        (&[("false", "/a"), ("true", "/b"), ("true", "/c")], Some("/b")),
        (&[("false", "/a")], None),
        (&[("false", "/a"), ("", "/d"), ("true", "/b")], Some("/d")),
    ];
    for (rules, expected) in rows {
        assert_eq!(
            routes(rules).unwrap().pick(EVENT.as_bytes()).unwrap(),
            *expected,
            "{rules:?}"
        );
    }
    // Without expressions the event is not looked into.
    assert_eq!(
        routes(&[("", "/a")]).unwrap().pick(b"no json").unwrap(),
        Some("/a")
    );
}

#[test]
fn failures_table() {
    for (expression, expected) in [
        ("event.data.missing == 1", "No such key: missing"),
        ("nothing == 1", "Undeclared reference to 'nothing'"),
        (
            "event.type",
            "the result of match expression event.type was not a boolean",
        ),
        ("event.type > 1", "found no matching overload"),
    ] {
        let error = routes(&[(expression, "/a")])
            .unwrap()
            .pick(EVENT.as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{expression}: {error}");
    }
    assert!(routes(&[("true", "/a")]).unwrap().pick(b"{").is_err());
    let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
    assert!(routes(&[("true", "/a")]).unwrap().pick(deep.as_bytes()).is_err());
}

/// What an app may send as an expression must not exhaust the stack, neither of the parser nor of the interpreter.
#[test]
fn hostile_expressions_table() {
    let refused = [
        "event.type ==".to_owned(),
        "(".to_owned(),
        "'".to_owned(),
        format!("{}true{}", "(".repeat(10_000), ")".repeat(10_000)),
        format!("{}true", "!".repeat(10_000)),
        format!("1{}", "+1".repeat(10_000)),
        format!("event{}", ".a".repeat(10_000)),
        format!("{}1", "true?1:".repeat(10_000)),
    ];
    for expression in refused {
        let error = routes(&[(&expression, "/a")])
            .err()
            .map(|error| error.to_string());
        assert!(
            error.is_some_and(|error| error.contains("is not valid CEL")),
            "{:.40}",
            expression
        );
    }
    let calls = |open: &str, close: &str, times| format!("{}true{}", open.repeat(times), close.repeat(times));
    let nearly = [
        calls("(", ")", super::MOST_BRACKETS),
        calls("!(", ")", super::MOST_BRACKETS),
        calls("[", "]", super::MOST_BRACKETS),
        calls("size([", "])==1", super::MOST_BRACKETS / 2),
        calls("[1].all(x, ", ")", super::MOST_BRACKETS),
        calls("[1].all(x, ", ")", 8),
        calls("true ? ", " : false", super::DEEPEST - 1),
        format!("{}true", "!".repeat(super::MOST_OPERATORS)),
        format!("1{} == 1", "+1".repeat(super::DEEPEST - 2)),
        format!("1{} == 1", "+1".repeat(super::MOST_OPERATORS)),
        format!("event{} == 1", ".a".repeat(super::MOST_OPERATORS)),
        format!("true{}", " || true".repeat(super::MOST_OPERATORS / 2)),
    ];
    for expression in nearly {
        // Whatever it says, it says it; a test thread has the stack of a worker.
        let _said = routes(&[(&expression, "/a")]).map(|routes| routes.pick(EVENT.as_bytes()).is_ok());
    }
}
