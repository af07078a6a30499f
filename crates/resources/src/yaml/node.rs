//! One YAML document as a tree, with lines, its aliases written out and its merge keys applied.

use super::scalar::{self, Scalar};
use super::{Dialect, Error, MAX_BYTES, MAX_DEPTH, MAX_NODES};
use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, Tag};
use std::borrow::Cow;
use std::collections::HashMap;

/// A value and the line it starts on.
#[derive(Clone, PartialEq)]
pub struct Node {
    pub line: usize,
    pub kind: Kind,
}

#[derive(Clone, PartialEq)]
pub enum Kind {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    /// Keys are unique and in the order written.
    Mapping(Vec<(String, Node)>),
}

impl Node {
    /// What an empty document holds.
    pub fn null() -> Self {
        Self {
            line: 1,
            kind: Kind::Scalar(Scalar::null()),
        }
    }

    /// The value of a key, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Mapping(entries) => entries
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// Lays `over` on top: mappings merge key by key, everything else is replaced.
    /// COMPAT(pkg/config/configuration.go): several Configuration files are decoded onto one value in order; a null
    /// empties a mapping or a list but leaves a scalar as it is.
    pub fn overlay(&mut self, over: Self) {
        match (&mut self.kind, over.kind) {
            (Kind::Mapping(base), Kind::Mapping(entries)) => {
                for (key, value) in entries {
                    match base.iter_mut().find(|(name, _)| *name == key) {
                        Some((_, existing)) => existing.overlay(value),
                        None => base.push((key, value)),
                    }
                }
            }
            (Kind::Scalar(base), Kind::Scalar(scalar)) if scalar.is_null() && !base.is_null() => {}
            (_, kind) => {
                self.kind = kind;
                self.line = over.line;
            }
        }
    }

    fn weight(&self) -> usize {
        1 + match &self.kind {
            Kind::Scalar(_) => 0,
            Kind::Sequence(items) => items.iter().map(Self::weight).sum(),
            Kind::Mapping(entries) => entries.iter().map(|(_, value)| 1 + value.weight()).sum(),
        }
    }

    fn depth(&self) -> usize {
        1 + match &self.kind {
            Kind::Scalar(_) => 0,
            Kind::Sequence(items) => items.iter().map(Self::depth).max().unwrap_or(0),
            Kind::Mapping(entries) => entries.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
        }
    }
}

/// A collection that is still open.
struct Open {
    line: usize,
    anchor: usize,
    parts: Parts,
}

enum Parts {
    Sequence(Vec<Node>),
    Mapping {
        entries: Vec<(String, Node)>,
        /// Where an entry of that key stands.
        places: HashMap<String, usize>,
        /// From `<<`; they apply where the mapping itself has no such key.
        merged: Vec<Node>,
        key: Option<Key>,
    },
}

enum Key {
    Name { text: String, line: usize },
    Merge { line: usize },
}

struct Anchored {
    node: Node,
    weight: usize,
    depth: usize,
}

struct Builder {
    dialect: Dialect,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    root: Option<Node>,
    nodes: usize,
}

pub(super) fn build(text: &str, dialect: Dialect) -> Result<Node, Error> {
    if text.len() > MAX_BYTES {
        return Err(Error::new(
            None,
            format!(
                "the document has {} bytes, at most {MAX_BYTES} are read; split it",
                text.len()
            ),
        ));
    }
    let mut failed = match read(text, dialect) {
        Ok(node) => return Ok(node),
        Err(failed) => failed,
    };
    // COMPAT(yaml.v3): within quotes, lines may begin anywhere, with tabs as well. What they begin with is no part of the value.
    let mut lines: Vec<Cow<'_, str>> = text.split('\n').map(Cow::Borrowed).collect();
    let far = lines.iter().map(|line| indentation(line)).max().unwrap_or(0) + 1;
    for _ in 0..MAX_REPAIRS {
        let Some(line) = failed
            .unindented
            .filter(|_| text.len() <= MAX_REPAIRED)
            .and_then(|line| lines.get_mut(line.checked_sub(1)?))
        else {
            break;
        };
        *line = Cow::Owned(format!("{:far$}{}", "", line.trim_start_matches([' ', '\t'])));
        match read(&lines.join("\n"), dialect) {
            Ok(node) => return Ok(node),
            // It does not get further: another try would be the same.
            Err(next) if next.unindented == failed.unindented => break,
            Err(next) => failed = next,
        }
    }
    Err(failed.error)
}

/// Lines of one document that are moved, and the largest such document in bytes: each is read again for it.
const MAX_REPAIRS: usize = 200;
const MAX_REPAIRED: usize = 64 << 10;

/// How far in the values of a line may be: a list's hyphen counts, too.
fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '\t', '-', '?']).len()
}

/// Why a document could not be read.
struct Failed {
    error: Error,
    /// A line within quotes, counted from 1, that begins too far to the left.
    unindented: Option<usize>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            error,
            unindented: None,
        }
    }
}

fn read(text: &str, dialect: Dialect) -> Result<Node, Failed> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut builder = Builder {
        dialect,
        open: Vec::new(),
        anchors: HashMap::new(),
        root: None,
        nodes: 0,
    };
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| {
            let line = error.marker().line();
            let text = format!(
                "not valid YAML: {} (column {})",
                error.info(),
                error.marker().col() + 1
            );
            Failed {
                error: Error::new(Some(line), text),
                unindented: matches!(
                    error.kind(),
                    ErrorKind::TabInIndentation | ErrorKind::InvalidQuotedScalarIndent
                )
                .then_some(line),
            }
        })?;
        let line = span.start.line();
        match event {
            Event::DocumentEnd => break,
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = scalar(&text, style, tag.as_deref(), line, dialect)?;
                builder.add(
                    Node {
                        line,
                        kind: Kind::Scalar(scalar),
                    },
                    anchor,
                )?;
            }
            Event::SequenceStart(_, anchor, _) => builder.begin(line, anchor, Parts::Sequence(Vec::new()))?,
            Event::MappingStart(_, anchor, _) => {
                let parts = Parts::Mapping {
                    entries: Vec::new(),
                    places: HashMap::new(),
                    merged: Vec::new(),
                    key: None,
                };
                builder.begin(line, anchor, parts)?;
            }
            Event::SequenceEnd | Event::MappingEnd => builder.end()?,
            Event::Alias(anchor) => builder.alias(anchor, line)?,
            _ => {}
        }
    }
    Ok(builder.root.unwrap_or_else(Node::null))
}

fn scalar(
    text: &str,
    style: ScalarStyle,
    tag: Option<&Tag>,
    line: usize,
    dialect: Dialect,
) -> Result<Scalar, Error> {
    const NAMESPACE: &str = "tag:yaml.org,2002:";
    let name = tag.and_then(|tag| tag.suffix_in_namespace(NAMESPACE));
    match name.as_deref() {
        Some("binary") => Err(Error::new(
            Some(line),
            "!!binary is not supported; write the text itself, or its base64 form without the tag",
        )),
        Some(name) => Scalar::tagged(text, name, dialect)
            .ok_or_else(|| Error::new(Some(line), format!("the value is not of the kind !!{name} says"))),
        None if tag.is_some() => Ok(Scalar::text(text)),
        None if style == ScalarStyle::Plain => Ok(Scalar::plain(text)),
        None => Ok(Scalar::text(text)),
    }
}

impl Builder {
    fn begin(&mut self, line: usize, anchor: usize, parts: Parts) -> Result<(), Error> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(line));
        }
        self.open.push(Open { line, anchor, parts });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        let Some(Open { line, anchor, parts }) = self.open.pop() else {
            return Ok(());
        };
        let kind = match parts {
            Parts::Sequence(items) => Kind::Sequence(items),
            Parts::Mapping {
                mut entries,
                mut places,
                merged,
                ..
            } => {
                for source in merged {
                    merge(&mut entries, &mut places, source);
                }
                Kind::Mapping(entries)
            }
        };
        self.add(Node { line, kind }, anchor)
    }

    fn alias(&mut self, anchor: usize, line: usize) -> Result<(), Error> {
        let inside = || {
            Error::new(
                Some(line),
                "an alias must not stand inside the value it refers to; write the value out",
            )
        };
        let anchored = self.anchors.get(&anchor).ok_or_else(inside)?;
        if self.open.len() + anchored.depth > MAX_DEPTH {
            return Err(too_deep(line));
        }
        // Counted before the copy: this is what stops an alias bomb.
        let weight = anchored.weight;
        self.count(line, weight)?;
        let anchored = self.anchors.get(&anchor).ok_or_else(inside)?;
        let kind = anchored.node.kind.clone();
        self.put(Node { line, kind })
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Error> {
        self.count(node.line, 1)?;
        if anchor != 0 {
            let (weight, depth) = (node.weight(), node.depth());
            // The copy kept for aliases costs as much as the node itself.
            self.count(node.line, weight)?;
            self.anchors.insert(
                anchor,
                Anchored {
                    node: node.clone(),
                    weight,
                    depth,
                },
            );
        }
        self.put(node)
    }

    fn count(&mut self, line: usize, nodes: usize) -> Result<(), Error> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(Error::new(
                Some(line),
                format!("the document grows beyond {MAX_NODES} values; use fewer aliases or split it"),
            ));
        }
        Ok(())
    }

    fn put(&mut self, node: Node) -> Result<(), Error> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.parts {
            Parts::Sequence(items) => items.push(node),
            Parts::Mapping {
                entries,
                places,
                merged,
                key,
            } => match key.take() {
                None => *key = Some(name(&node, self.dialect)?),
                Some(Key::Merge { line }) => merge_sources(merged, node, line)?,
                Some(Key::Name { text, line }) => {
                    match places.get(&text).and_then(|place| entries.get_mut(*place)) {
                        None => {
                            places.insert(text.clone(), entries.len());
                            entries.push((text, node));
                        }
                        Some((_, existing)) if self.dialect == Dialect::Resource => *existing = node,
                        Some((_, existing)) => {
                            let message = format!(
                                "mapping key {} already defined at line {}",
                                crate::go::quote::quote(&text),
                                existing.line
                            );
                            return Err(Error::new(Some(line), message));
                        }
                    }
                }
            },
        }
        Ok(())
    }
}

fn too_deep(line: usize) -> Error {
    Error::new(
        Some(line),
        format!("nested deeper than {MAX_DEPTH} levels; flatten the document"),
    )
}

fn name(node: &Node, dialect: Dialect) -> Result<Key, Error> {
    let line = node.line;
    let Kind::Scalar(scalar) = &node.kind else {
        return Err(Error::new(
            Some(line),
            "a mapping key must be text, not a list or a mapping",
        ));
    };
    if scalar.is_merge() {
        return Ok(Key::Merge { line });
    }
    scalar::key(scalar, dialect)
        .map(|text| Key::Name { text, line })
        .ok_or_else(|| Error::new(Some(line), "a mapping key must be text, not null"))
}

fn merge_sources(merged: &mut Vec<Node>, node: Node, line: usize) -> Result<(), Error> {
    match node.kind {
        Kind::Mapping(_) => merged.push(node),
        Kind::Sequence(items) if items.iter().all(|item| matches!(item.kind, Kind::Mapping(_))) => {
            merged.extend(items);
        }
        _ => {
            return Err(Error::new(
                Some(line),
                "map merge requires map or sequence of maps as the value",
            ));
        }
    }
    Ok(())
}

fn merge(entries: &mut Vec<(String, Node)>, places: &mut HashMap<String, usize>, source: Node) {
    let Kind::Mapping(sources) = source.kind else {
        return;
    };
    for (key, value) in sources {
        if !places.contains_key(&key) {
            places.insert(key.clone(), entries.len());
            entries.push((key, value));
        }
    }
}
