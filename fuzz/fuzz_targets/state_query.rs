//! Queries of state, as clients send them: reading one never panics and says what is wrong; what was read can be answered
//! for any values, page by page, without losing or repeating one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger_component::state::query::{Found, Matcher, Query};

/// Pages that are asked for at most.
const PAGES: usize = 20;

fuzz_target!(|data: &[u8]| {
    // A query, then values, each on a line of its own.
    let mut lines = data.split(|byte| *byte == b'\n');
    let text = lines.next().unwrap_or_default();
    let mut query = match Query::parse(text) {
        Ok(query) => query,
        Err(cause) => {
            assert!(!cause.is_empty());
            return;
        }
    };
    if query.token.is_some() {
        // Any number is a place to begin; everything else is refused.
        let _refused = Matcher::new(&query).map(Matcher::page);
        query.token = None;
    }
    let values: Vec<Found> = lines
        .enumerate()
        .map(|(number, value)| Found {
            key: format!("{number:05}"),
            value: value.to_vec().into(),
            etag: None,
        })
        .collect();
    let ask = |query: &Query| {
        let mut matcher = Matcher::new(query).expect("no token, or one of ours");
        for value in &values {
            matcher.offer(value.clone());
        }
        matcher.page()
    };
    let everything = ask(&Query {
        limit: 0,
        ..query.clone()
    });
    assert_eq!(everything.token, None);
    let mut rest = everything.results.as_slice();
    for _ in 0..PAGES {
        let page = ask(&query);
        let (expected, left) = rest.split_at(page.results.len());
        assert_eq!(page.results, expected);
        rest = left;
        query.token = page.token;
        if query.token.is_none() {
            assert!(rest.is_empty());
            return;
        }
        assert_eq!(page.results.len(), query.limit);
    }
});
