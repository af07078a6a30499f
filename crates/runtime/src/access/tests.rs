use super::{Decision, Error, Identity, Rules};
use http::Method;
use outrigger_resources::configuration::access::{AccessControl, AppPolicy, Operation};

fn spec(default: &str, policies: Vec<AppPolicy>) -> AccessControl {
    AccessControl {
        default_action: default.to_owned(),
        trust_domain: "public".to_owned(),
        policies,
    }
}

fn policy(default: &str, operations: &[(&str, &[&str], &str)]) -> AppPolicy {
    AppPolicy {
        app: "shop".to_owned(),
        default_action: default.to_owned(),
        trust_domain: "public".to_owned(),
        namespace: "prod".to_owned(),
        operations: operations
            .iter()
            .map(|(name, verbs, action)| Operation {
                name: (*name).to_owned(),
                http_verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
                action: (*action).to_owned(),
            })
            .collect(),
    }
}

fn shop() -> Identity {
    Identity::parse("spiffe://public/ns/prod/shop").unwrap()
}

#[test]
fn identities() {
    assert_eq!(shop().to_string(), "spiffe://public/ns/prod/shop");
    assert!(Identity::parse("spiffe://public/ns/prod/shop/more").is_ok());
    for id in [
        "",
        "spiffe://public",
        "spiffe://public/ns/prod",
        "spiffe://public/ns//shop",
        "spiffe:///ns/prod/shop",
        "spiffe://public/sa/prod/shop",
        "https://public/ns/prod/shop",
    ] {
        assert_eq!(Identity::parse(id), Err(Error::Identity(id.to_owned())), "{id}");
    }
}

#[test]
fn rules_that_say_nothing() {
    assert!(Rules::new(&AccessControl::default(), true).unwrap().is_none());
    assert!(Rules::new(&spec("ALLOW", vec![]), true).unwrap().is_none());
    assert!(Rules::new(&spec("", vec![]), true).unwrap().is_none());
    assert!(Rules::new(&spec("deny", vec![]), true).unwrap().is_some());
}

#[test]
fn incomplete_policies() {
    let mut bad = policy("", &[]);
    bad.trust_domain.clear();
    let mut nameless = policy("", &[]);
    nameless.app.clear();
    nameless.namespace.clear();
    let error = Rules::new(&spec("allow", vec![bad, nameless]), true).unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid access control spec. missing trustdomain for apps: [shop], missing namespace for apps: [], missing app name on at least one of the app policies: true"
    );
}

#[test]
fn who_may_do_what_over_http() {
    let operations: &[(&str, &[&str], &str)] = &[
        ("/public", &["*"], "allow"),
        ("Orders/*", &["GET", "PUT"], "allow"),
        ("/secret", &["GET"], "deny"),
        ("/silent", &[], "allow"),
    ];
    let stranger = Identity {
        app_id: "stranger".to_owned(),
        ..shop()
    };
    let foreign = Identity {
        trust_domain: "elsewhere".to_owned(),
        ..shop()
    };
    let other_namespace = Identity {
        namespace: "test".to_owned(),
        ..shop()
    };
    for (list, own, caller, method, verb, allowed, by_policy) in [
        // Nobody knows who calls: the list's default, whatever is called.
        ("deny", "allow", None, "public", "GET", false, false),
        ("allow", "deny", None, "secret", "GET", true, false),
        ("deny", "allow", Some(&stranger), "public", "GET", false, false),
        ("deny", "allow", Some(&foreign), "public", "GET", false, false),
        (
            "allow",
            "deny",
            Some(&other_namespace),
            "admin",
            "GET",
            true,
            false,
        ),
        ("deny", "deny", Some(&shop()), "public", "POST", true, true),
        ("deny", "deny", Some(&shop()), "/PUBLIC/x", "POST", true, true),
        ("deny", "deny", Some(&shop()), "admin", "GET", false, true),
        ("deny", "deny", Some(&shop()), "orders/1", "GET", true, true),
        ("deny", "deny", Some(&shop()), "orders/1", "DELETE", false, true),
        ("deny", "allow", Some(&shop()), "orders/1", "DELETE", true, true),
        ("deny", "allow", Some(&shop()), "secret", "GET", false, true),
        ("deny", "allow", Some(&shop()), "secret", "PUT", true, true),
        // Without verbs an operation says nothing.
        ("deny", "deny", Some(&shop()), "silent", "GET", false, true),
        // Without a default of its own, the policy has the list's.
        ("allow", "", Some(&shop()), "admin", "GET", true, false),
        ("deny", "", Some(&shop()), "public", "GET", true, false),
        ("", "", Some(&shop()), "admin", "GET", false, false),
    ] {
        let rules = Rules::new(&spec(list, vec![policy(own, operations)]), true)
            .unwrap()
            .unwrap();
        let verb = Method::from_bytes(verb.as_bytes()).unwrap();
        let decision = rules.decide(caller, method, Some(&verb));
        let expected = Decision { allowed, by_policy };
        assert_eq!(decision, expected, "{list} {own} {caller:?} {method} {verb}");
    }
}

#[test]
fn grpc_methods_have_case_and_no_verbs() {
    let operations: &[(&str, &[&str], &str)] = &[
        ("/pkg.Service/Method", &[], "allow"),
        ("OnInvoked", &["GET"], "allow"),
    ];
    let rules = Rules::new(&spec("deny", vec![policy("deny", operations)]), false)
        .unwrap()
        .unwrap();
    for (method, allowed) in [
        ("/pkg.Service/Method", true),
        ("/pkg.service/method", false),
        ("OnInvoked", true),
        ("Other", false),
    ] {
        assert_eq!(
            rules.decide(Some(&shop()), method, None).allowed,
            allowed,
            "{method}"
        );
    }
}

#[test]
fn http_without_a_verb_is_left_to_the_policy() {
    let operations: &[(&str, &[&str], &str)] = &[("/public", &["*"], "allow")];
    for (own, allowed) in [("deny", false), ("allow", true), ("", false)] {
        let rules = Rules::new(&spec("allow", vec![policy(own, operations)]), true)
            .unwrap()
            .unwrap();
        assert_eq!(
            rules.decide(Some(&shop()), "public", None).allowed,
            allowed,
            "{own}"
        );
    }
}
