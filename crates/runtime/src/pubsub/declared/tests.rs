use super::{merge, read};
use crate::pubsub::active::Kind;
use outrigger_channel::app::{Rule, Subscription};
use outrigger_resources::subscription::{self, Routes, Subscription as Document};

fn document(name: &str, topic: &str, route: &str, scopes: &[&str]) -> Document {
    Document {
        name: name.to_owned(),
        pubsub: "p".to_owned(),
        topic: topic.to_owned(),
        routes: Routes {
            rules: Vec::new(),
            default: route.to_owned(),
        },
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        ..Document::default()
    }
}

fn app(pubsub: &str, topic: &str, path: &str) -> Subscription {
    Subscription {
        pubsub: pubsub.to_owned(),
        topic: topic.to_owned(),
        rules: vec![Rule {
            expression: String::new(),
            path: path.to_owned(),
        }],
        ..Subscription::default()
    }
}

#[test]
fn merge_table() {
    let documents = vec![
        document("one", "a", "/1", &[]),
        document("two", "a", "/2", &[]),
        document("three", "b", "/3", &["me", "you"]),
        document("four", "c", "/4", &["you"]),
        document("five", "d", "/5", &[]),
        document("five", "e", "/6", &[]),
    ];
    let declared = read(documents, "me").unwrap();
    let said = [
        app("p", "b", "/7"),
        app("p", "b", "/8"),
        app("q", "b", "/9"),
        app("p", "f", "/10"),
    ];
    let rows: &[(&[Subscription], &str)] = &[
        (&[], "p/a=/1 p/b=/3 p/e=/6"),
        (&said, "p/a=/1 p/b=/8! p/e=/6 q/b=/9! p/f=/10!"),
    ];
    for (said, expected) in rows {
        let merged: Vec<String> = merge(&declared, said)
            .into_iter()
            .map(|(kind, subscription)| {
                let mark = if kind == Kind::Programmatic { "!" } else { "" };
                format!(
                    "{}/{}={}{mark}",
                    subscription.pubsub, subscription.topic, subscription.rules[0].path
                )
            })
            .collect();
        assert_eq!(merged.join(" "), *expected);
    }
}

#[test]
fn rules_come_before_the_default_and_must_compile() {
    let mut routed = document("one", "a", "/default", &[]);
    routed.routes.rules = vec![subscription::Rule {
        matches: "true".to_owned(),
        path: "/rule".to_owned(),
    }];
    let read_back = read(vec![routed.clone()], "me").unwrap();
    let paths: Vec<&str> = read_back[0].rules.iter().map(|rule| rule.path.as_str()).collect();
    assert_eq!(paths, ["/rule", "/default"]);

    routed.routes.rules[0].matches = "event.".to_owned();
    let error = read(vec![routed], "me").unwrap_err().to_string();
    assert!(
        error.starts_with("subscription \"one\": route expression \"event.\" is not valid CEL: "),
        "{error}"
    );
}
