//! Paths as label values: cutting out what varies, and matching templates.
//!
//! COMPAT(pkg/diagnostics/http_monitoring_path_matching.go): templates follow the patterns of Go's `ServeMux`, without
//! method and host: `{name}` is one segment, `{name...}` the rest, a trailing slash any continuation, `{$}` the end;
//! the more specific one wins.

use std::borrow::Cow;
use std::collections::HashMap;

/// A template that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    #[error("metrics path templates \"{0}\" and \"{1}\" match the same paths: keep one")]
    Ambiguous(String, String),
    #[error(
        "metrics path template \"{0}\": a wildcard must be a whole segment and named, as in /orders/{{id}}"
    )]
    Malformed(String),
}

/// Configured templates as a tree of segments.
#[derive(Default)]
pub(super) struct Paths {
    root: Node,
    any: bool,
}

#[derive(Default)]
struct Node {
    literal: HashMap<Box<str>, Node>,
    wildcard: Option<Box<Node>>,
    /// The template that ends here.
    end: Option<Box<str>>,
    /// The template that takes whatever follows.
    rest: Option<Box<str>>,
}

impl Paths {
    pub(super) fn new(templates: &[String]) -> Result<Self, PathError> {
        let mut templates: Vec<_> = templates
            .iter()
            .map(|template| normalised(template).into_owned())
            .collect();
        templates.sort();
        templates.dedup();
        let mut paths = Self {
            root: Node::default(),
            any: !templates.is_empty(),
        };
        for template in &templates {
            if let Some(taken) = paths.root.insert(template)? {
                return Err(PathError::Ambiguous(taken.into(), template.clone()));
            }
        }
        for template in templates
            .iter()
            .filter(|template| !template.starts_with("/v1.0/invoke/"))
        {
            // What the user wrote for such paths keeps its place.
            paths
                .root
                .insert(&format!("/v1.0/invoke/{{app_id}}/method{template}"))?;
        }
        Ok(paths)
    }

    /// Whether there are templates at all.
    pub(super) fn any(&self) -> bool {
        self.any
    }

    /// The template that matches a normalised path best.
    pub(super) fn find(&self, path: &str) -> Option<&str> {
        let path = path.strip_prefix('/').unwrap_or(path);
        match self.root.find(path) {
            Some(Match {
                template,
                whole: true,
            }) => Some(template),
            // COMPAT(ServeMux): `/tree` stands for `/tree/` rather than for what is above it.
            found => Some(path)
                .filter(|path| !path.is_empty() && !path.ends_with('/'))
                .and_then(|path| self.root.find_with_slash(path))
                .or(found.map(|found| found.template)),
        }
    }
}

struct Match<'a> {
    template: &'a str,
    /// Whether each segment had its counterpart, rather than falling under a "whatever follows".
    whole: bool,
}

impl Node {
    /// Adds a template unless its place is taken; then says by whom.
    fn insert(&mut self, template: &str) -> Result<Option<Box<str>>, PathError> {
        let malformed = || PathError::Malformed(template.to_owned());
        let mut segments = template
            .strip_prefix('/')
            .unwrap_or(template)
            .split('/')
            .peekable();
        let mut node = self;
        while let Some(segment) = segments.next() {
            let last = segments.peek().is_none();
            let wildcard = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let place = match (segment, wildcard) {
                ("", _) if last => Some(&mut node.rest),
                (_, Some("$")) if last => {
                    node = node.literal.entry("".into()).or_default();
                    Some(&mut node.end)
                }
                (_, Some(name)) if last && name.len() > 3 && name.ends_with("...") => Some(&mut node.rest),
                (_, Some(name)) if name.is_empty() || name.contains(['{', '}', '.', '$']) => {
                    return Err(malformed());
                }
                (_, Some(_)) => {
                    node = node.wildcard.get_or_insert_default();
                    last.then_some(&mut node.end)
                }
                (_, None) if segment.contains(['{', '}']) => return Err(malformed()),
                (_, None) => {
                    node = node.literal.entry(segment.into()).or_default();
                    last.then_some(&mut node.end)
                }
            };
            if let Some(place) = place {
                let taken = place.clone();
                place.get_or_insert_with(|| template.into());
                return Ok(taken);
            }
        }
        Ok(None)
    }

    fn find(&self, path: &str) -> Option<Match<'_>> {
        let (segment, rest) = split(path);
        let literal = self.literal.get(segment).and_then(|node| node.step(rest));
        // A wildcard takes a segment that is there.
        let wildcard = || {
            self.wildcard
                .as_ref()
                .filter(|_| !segment.is_empty())
                .and_then(|node| node.step(rest))
        };
        let whatever = || {
            self.rest.as_deref().map(|template| Match {
                template,
                whole: path.is_empty(),
            })
        };
        literal.or_else(wildcard).or_else(whatever)
    }

    fn step(&self, rest: Option<&str>) -> Option<Match<'_>> {
        match rest {
            Some(rest) => self.find(rest),
            None => self.end.as_deref().map(|template| Match {
                template,
                whole: true,
            }),
        }
    }

    /// The template that is this path with a slash behind it.
    fn find_with_slash(&self, path: &str) -> Option<&str> {
        let (segment, rest) = split(path);
        [self.literal.get(segment), self.wildcard.as_deref()]
            .into_iter()
            .flatten()
            .find_map(|node| match rest {
                Some(rest) => node.find_with_slash(rest),
                None => node.rest.as_deref(),
            })
    }
}

/// The first segment, and what is behind its slash if it has one.
fn split(path: &str) -> (&str, Option<&str>) {
    match path.split_once('/') {
        Some((segment, rest)) => (segment, Some(rest)),
        None => (path, None),
    }
}

/// The path with doubled slashes merged and a slash in front.
pub(super) fn normalised(path: &str) -> Cow<'_, str> {
    if path.starts_with('/') && !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len() + 1);
    out.push('/');
    for char in path.chars() {
        if char != '/' || !out.ends_with('/') {
            out.push(char);
        }
    }
    Cow::Owned(out)
}

/// The path with keys and ids cut out, as the reference does for its own routes; other paths stay.
///
/// COMPAT(pkg/diagnostics/http_monitoring_legacy.go)
pub(super) fn reduced(path: Cow<'_, str>) -> Cow<'_, str> {
    let mut segments = path.strip_prefix('/').unwrap_or(&path).splitn(6, '/');
    let (Some(first), Some(second), Some(third)) = (segments.next(), segments.next(), segments.next()) else {
        return path;
    };
    let (fourth, fifth, sixth) = (segments.next(), segments.next(), segments.next());
    if first == "actors" {
        // The app's own actor routes; COMPAT: without the leading slash.
        let rest = [fourth, fifth, sixth]
            .into_iter()
            .flatten()
            .flat_map(|segment| ["/", segment]);
        let label: String = [first, "/", second, "/{id}"].into_iter().chain(rest).collect();
        return Cow::Owned(label);
    }
    match (second, fourth, fifth, sixth) {
        ("state" | "secrets", None, ..) => path,
        ("state" | "secrets", ..) => {
            let length = 3 + first.len() + second.len() + third.len();
            prefix(path, length)
        }
        ("actors", Some(_), Some(method), _) => {
            Cow::Owned(format!("/{first}/{second}/{third}/{{id}}/{method}"))
        }
        ("workflows", Some(_), None, _) => Cow::Owned(format!("/{first}/{second}/{third}/{{instanceId}}")),
        ("workflows", Some(name), Some(action), None) if action.starts_with("start") => {
            Cow::Owned(format!("/{first}/{second}/{third}/{name}/start"))
        }
        ("workflows", Some(_), Some("raiseEvent"), Some(event)) if !event.is_empty() => Cow::Owned(format!(
            "/{first}/{second}/{third}/{{instanceId}}/raiseEvent/{{eventName}}"
        )),
        ("workflows", Some(_), Some(action), _) => {
            Cow::Owned(format!("/{first}/{second}/{third}/{{instanceId}}/{action}"))
        }
        _ => path,
    }
}

fn prefix(path: Cow<'_, str>, length: usize) -> Cow<'_, str> {
    match path {
        Cow::Borrowed(path) => Cow::Borrowed(path.get(..length).unwrap_or(path)),
        Cow::Owned(mut path) => {
            path.truncate(length);
            Cow::Owned(path)
        }
    }
}
