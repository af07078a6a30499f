use super::{Found, Matcher, Page, Query};
use bytes::Bytes;

/// Pages of keys, and the token of each but the last.
fn pages(query: &str, values: &[(&str, &str)]) -> Vec<Vec<String>> {
    let mut query = Query::parse(query.as_bytes()).unwrap();
    let mut pages = Vec::new();
    loop {
        let mut matcher = Matcher::new(&query).unwrap();
        for (key, value) in values {
            matcher.offer(Found {
                key: (*key).to_owned(),
                value: Bytes::copy_from_slice(value.as_bytes()),
                etag: None,
            });
        }
        let Page { results, token, .. } = matcher.page();
        pages.push(results.into_iter().map(|found| found.key).collect());
        match token {
            Some(token) => query.token = Some(token),
            None => return pages,
        }
    }
}

const PEOPLE: &[(&str, &str)] = &[
    (
        "1",
        r#"{"person":{"org":"Dev Ops","id":1036},"city":"Seattle","state":"WA"}"#,
    ),
    (
        "2",
        r#"{"person":{"org":"Hardware","id":1028.0},"city":"Portland","state":"OR"}"#,
    ),
    (
        "3",
        r#"{"person":{"org":"Finance","id":1071},"city":"Sacramento","state":"CA"}"#,
    ),
    (
        "4",
        r#"{"person":{"org":"Dev Ops","id":1042},"city":"Spokane","state":"WA"}"#,
    ),
    (
        "5",
        r#"{"person":{"org":"Hardware","id":1007},"city":"Los Angeles","state":"CA","tags":["x",true]}"#,
    ),
    ("6", "no JSON"),
];

#[test]
fn filters() {
    for (filter, expected) in [
        (r#"{"EQ":{"state":"CA"}}"#, "3 5"),
        (r#"{"EQ":{"person.id":1028}}"#, "2"),
        (r#"{"NEQ":{"state":"WA"}}"#, "2 3 5"),
        (r#"{"NEQ":{"tags.0":"y"}}"#, "5"),
        (r#"{"EQ":{"tags.1":true}}"#, "5"),
        (r#"{"EQ":{"tags.9":true}}"#, ""),
        (r#"{"GT":{"person.id":1042}}"#, "3"),
        (r#"{"GTE":{"person.id":1042}}"#, "3 4"),
        (r#"{"LT":{"person.id":1028.5}}"#, "2 5"),
        (r#"{"LTE":{"city":"Portland"}}"#, "2 5"),
        (r#"{"GT":{"city":7}}"#, ""),
        (r#"{"IN":{"state":["CA","OR"]}}"#, "2 3 5"),
        (r#"{"IN":{"state":[]}}"#, ""),
        (
            r#"{"OR":[{"EQ":{"person.org":"Dev Ops"}},{"AND":[{"EQ":{"person.org":"Finance"}},{"IN":{"state":["CA","WA"]}}]}]}"#,
            "1 3 4",
        ),
        (r#"{}"#, "1 2 3 4 5 6"),
    ] {
        let query = format!(r#"{{"filter":{filter}}}"#);
        assert_eq!(pages(&query, PEOPLE)[0].join(" "), expected, "{filter}");
    }
}

#[test]
fn orders_and_pages() {
    for (query, expected) in [
        (
            r#"{"sort":[{"key":"state","order":"DESC"},{"key":"person.id"}]}"#,
            &["1 4 2 5 3 6"][..],
        ),
        (
            r#"{"filter":{"NEQ":{"state":"XX"}},"sort":[{"key":"person.id"}],"page":{"limit":2}}"#,
            &["5 2", "1 4", "3"],
        ),
        (r#"{"page":{"limit":3}}"#, &["1 2 3", "4 5 6"]),
        (r#"{"page":{"limit":6}}"#, &["1 2 3 4 5 6"]),
        (
            r#"{"sort":[{"key":"tags"}],"Page":{"Limit":1,"token":"1"}}"#,
            &["1", "2", "3", "4", "6"],
        ),
        (r#"{"page":{"token":"100"}}"#, &[""]),
    ] {
        let seen: Vec<String> = pages(query, PEOPLE).iter().map(|page| page.join(" ")).collect();
        assert_eq!(seen, expected, "{query}");
    }
}

#[test]
fn only_what_is_shown_is_kept() {
    let query = Query::parse(br#"{"sort":[{"key":"n"}],"page":{"limit":2}}"#).unwrap();
    let mut matcher = Matcher::new(&query).unwrap();
    for number in (0..10_000).rev() {
        matcher.offer(Found {
            key: number.to_string(),
            value: Bytes::from(format!(r#"{{"n":{number}}}"#)),
            etag: None,
        });
        assert!(matcher.found.len() <= 65);
    }
    let page = matcher.page();
    let keys: Vec<_> = page.results.iter().map(|found| found.key.as_str()).collect();
    assert_eq!((keys, page.token.as_deref()), (vec!["0", "1"], Some("2")));
}

#[test]
fn what_is_wrong_is_said() {
    for (query, expected) in [
        (r#"{"filter":{"EQ":7}}"#, "EQ filter must be a map"),
        (
            r#"{"filter":{"GTE":{"a":1,"b":2}}}"#,
            "GTE filter must contain a single key/value pair",
        ),
        (
            r#"{"filter":{"EQ":{"a":1},"NEQ":{"a":2}}}"#,
            "filter unit must have a single element",
        ),
        (r#"{"filter":{"IN":{"a":1}}}"#, "IN filter value must be an array"),
        (r#"{"filter":{"AND":{}}}"#, "AND filter must be an array"),
        (
            r#"{"filter":{"OR":[{"EQ":{"a":1}}]}}"#,
            "OR filter must contain at least two entries",
        ),
        (r#"{"filter":{"AND":[1,2]}}"#, "filter unit must be a map"),
        (r#"{"filter":{"LIKE":{}}}"#, "unsupported filter \"LIKE\""),
        (r#"{"filter":[]}"#, "filter must be an object"),
        (
            r#"{"sort":[{"key":"a","order":"up"}]}"#,
            "sort order must be ASC or DESC, not \"up\"",
        ),
        (r#"{"sort":[{}]}"#, "sort entry must have a key"),
        (r#"{"page":{"limit":-1}}"#, "page limit must be a whole number"),
        (r#"{"page":{"token":1}}"#, "page token must be a text"),
    ] {
        assert_eq!(
            Query::parse(query.as_bytes()),
            Err(expected.to_owned()),
            "{query}"
        );
    }
    for text in ["", "{", "[]", "7", &"{\"filter\":".repeat(10_000)] {
        assert!(Query::parse(text.as_bytes()).is_err(), "{text}");
    }
    let query = Query {
        token: Some("x".to_owned()),
        ..Query::default()
    };
    assert!(Matcher::new(&query).is_err());
}
