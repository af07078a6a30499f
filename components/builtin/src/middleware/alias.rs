//! `middleware.http.routeralias`: a path stands for another one.
//!
//! A pattern is a path in which `{name}` stands for one segment or a part of one, and `{name:expression}` for what the
//! expression matches. What it stood for is added to the query of the new path. Paths without placeholders go before patterns.
//!
//! COMPAT(components-contrib middleware/http/routeralias, gorilla/mux): patterns; the older form of metadata, one path per
//! name; that a query with placeholders' values is written anew, sorted.

#[cfg(test)]
mod tests;

use http::Uri;
use http::uri::PathAndQuery;
use outrigger_component::Component;
use outrigger_component::error::{Error, Result};
use outrigger_component::metadata::Metadata;
use outrigger_component::middleware::{HttpMiddleware, Next, Request, Response};
use outrigger_component::setup::Setup;
use outrigger_resources::yaml::{self, Dialect};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use regex::Regex;
use std::collections::HashMap;

/// What cannot stand in a path as it is. Source: RFC 3986 section 3.3.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}')
    .add(b'%');
/// As Go escapes a query's parts.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

pub struct Alias {
    exact: HashMap<String, String>,
    patterns: Vec<Pattern>,
}

struct Pattern {
    expression: Regex,
    names: Vec<String>,
    to: String,
}

impl Alias {
    /// # Errors
    /// `Invalid` for routes that cannot be read.
    pub async fn build(setup: Setup<Metadata>) -> Result<Self> {
        let routes = setup.config.get_any_case("routes").unwrap_or_default();
        if setup.config.is_empty() {
            return Self::of([]);
        }
        if setup.config.len() > 1 || routes.is_empty() {
            setup.log.warn(format_args!(
                "middleware {}: routes as names of metadata are deprecated; use the property 'routes'",
                setup.name
            ));
            let routes = setup.config.iter();
            return Self::of(routes.map(|(from, to)| (from.to_owned(), to.to_owned())));
        }
        Self::of(decode(routes)?)
    }

    fn of(routes: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let mut alias = Self {
            exact: HashMap::new(),
            patterns: Vec::new(),
        };
        for (from, to) in routes {
            if from.is_empty() || to.is_empty() {
                return Err(Error::invalid(
                    "invalid key/value pair in metadata: must not be empty",
                ));
            }
            if from.contains('{') {
                alias.patterns.push(Pattern::parse(&from, to)?);
            } else {
                alias.exact.insert(from, to);
            }
        }
        Ok(alias)
    }

    /// The new path and query, if there is one.
    fn replace(&self, uri: &Uri) -> Option<String> {
        let path = percent_decode_str(uri.path()).decode_utf8_lossy();
        if let Some(to) = self.exact.get(&*path) {
            let path = utf8_percent_encode(to, PATH).to_string();
            return Some(match uri.query() {
                None => path,
                Some(query) => format!("{path}?{query}"),
            });
        }
        let (pattern, found) = self
            .patterns
            .iter()
            .find_map(|pattern| Some((pattern, pattern.expression.captures(&path)?)))?;
        let query = uri.query().unwrap_or_default();
        let mut query: Vec<(String, String)> =
            form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        for (number, name) in pattern.names.iter().enumerate() {
            let value = found.get(number + 1).map_or("", |value| value.as_str());
            query.push((name.clone(), value.to_owned()));
        }
        query.sort_by(|(one, _), (other, _)| one.cmp(other));
        let written: Vec<String> = query
            .iter()
            .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)))
            .collect();
        Some(format!(
            "{}?{}",
            utf8_percent_encode(&pattern.to, PATH),
            written.join("&")
        ))
    }
}

impl Component for Alias {}

#[async_trait::async_trait]
impl HttpMiddleware for Alias {
    async fn handle(&self, mut request: Request, next: Next<'_>) -> Response {
        if let Some(target) = self.replace(request.uri())
            && let Ok(target) = PathAndQuery::try_from(target)
        {
            let mut parts = request.uri().clone().into_parts();
            parts.path_and_query = Some(target);
            if let Ok(uri) = Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
        }
        next.serve(request).await
    }
}

impl Pattern {
    fn parse(from: &str, to: String) -> Result<Self> {
        let bad = |why: &str| Error::invalid(format!("route {from:?}: {why}"));
        let mut expression = String::from("^");
        let mut names = Vec::new();
        let mut rest = from;
        while let Some((literal, after)) = rest.split_once('{') {
            expression.push_str(&regex::escape(literal));
            let end = closing(after).ok_or_else(|| bad("a { has no }"))?;
            let (inside, tail) = after.split_at(end);
            let (name, part) = inside.split_once(':').unwrap_or((inside, "[^/]+"));
            if name.is_empty() || part.is_empty() {
                return Err(bad("a placeholder needs a name"));
            }
            // Groups of its own would count as placeholders.
            let part = Regex::new(part).map_err(|error| bad(&error.to_string()))?;
            if part.captures_len() > 1 {
                return Err(bad("an expression must not have groups of its own; write (?:…)"));
            }
            expression.push_str(&format!("({part})"));
            names.push(name.to_owned());
            rest = tail.strip_prefix('}').unwrap_or(tail);
        }
        expression.push_str(&regex::escape(rest));
        expression.push('$');
        Ok(Self {
            expression: Regex::new(&expression).map_err(|error| bad(&error.to_string()))?,
            names,
            to,
        })
    }
}

/// Where the `}` of a placeholder is; expressions may have their own.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// JSON, or YAML.
fn decode(text: &str) -> Result<Vec<(String, String)>> {
    if let Ok(routes) = serde_json::from_str::<HashMap<String, String>>(text) {
        return Ok(sorted(routes));
    }
    yaml::parse(text, Dialect::Configuration)
        .and_then(|node| yaml::decode::<HashMap<String, String>>(&node, Dialect::Configuration))
        .map(sorted)
        .map_err(|error| {
            Error::invalid(format!(
                "failed to decode 'routes' property as JSON or YAML: {error}"
            ))
        })
}

/// The same order at every start.
fn sorted(routes: HashMap<String, String>) -> Vec<(String, String)> {
    let mut routes: Vec<_> = routes.into_iter().collect();
    routes.sort();
    routes
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, QUERY).to_string().replace("%20", "+")
}
