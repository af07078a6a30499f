//! YAML as the reference reads it: the only code that knows the syntax.
//!
//! The reference has two readers, and a document's meaning depends on which one reads it, so a [`Dialect`] is passed:
//! resources go through YAML 1.1 to JSON to Go structs, Configuration files through a newer library straight into
//! structs. [`split`] cuts a file into documents, [`parse`] makes a [`Node`] tree of one, [`decode()`] fills a type.
//!
//! Invariants: every input, bytes or text, ends in a value or an [`Error`], never in a panic; a document costs at most
//! [`MAX_BYTES`] of text, [`MAX_NODES`] nodes (aliases counted as often as used) and [`MAX_DEPTH`] levels.
//! Error messages never contain a value, since a value may be a secret.
//!
//! Deliberately not here: writing YAML, keeping comments, `!!binary`.

pub mod decode;
pub mod node;
pub mod scalar;

use node::Node;
use serde::de::DeserializeOwned;
use std::fmt;

/// Longest document accepted, in bytes. COMPAT(pkg/internal/loader/disk/manifest.go): the reference stops at 64 KiB.
pub const MAX_BYTES: usize = 4 << 20;
/// Most nodes in a document once its aliases are written out.
pub const MAX_NODES: usize = 100_000;
/// Deepest nesting.
pub const MAX_DEPTH: usize = 100;

/// Whose rules apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `sigs.k8s.io/yaml`: `yes`, `on`, `y` are booleans everywhere, field names match in any case, a repeated key
    /// overrides, a number or boolean becomes text where text belongs (numbers in their shortest form).
    Resource,
    /// `gopkg.in/yaml.v3`: `yes` and `on` are booleans only where one belongs, names match exactly, a repeated key
    /// is an error, any scalar becomes text as written where text belongs.
    Configuration,
}

/// Where and why a document was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// Counted from 1 within the text given to [`parse`]; absent when the whole text is at fault.
    pub line: Option<usize>,
    /// `spec.metadata[2].name`; empty at the root.
    pub path: String,
    pub message: String,
}

impl Error {
    pub fn new(line: Option<usize>, message: impl Into<String>) -> Self {
        Self {
            line,
            path: String::new(),
            message: message.into(),
        }
    }

    /// Counts lines from the start of the file instead of the start of the document.
    #[must_use]
    pub fn shifted(mut self, lines: usize) -> Self {
        self.line = self.line.map(|line| line + lines);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// One document of a file, still text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Document<'t> {
    /// Counted from 0, empty documents included.
    pub index: usize,
    /// Lines of the file before this document.
    pub lines_before: usize,
    pub text: &'t str,
}

/// Cuts a file at lines that start with `---`, so that one broken document does not hide the others.
/// COMPAT(pkg/internal/loader/disk/manifest.go): what follows `---` on its line is ignored.
pub fn split(text: &str) -> impl Iterator<Item = Document<'_>> {
    let mut rest = Some(text);
    let mut lines_before = 0;
    let mut index = 0;
    std::iter::from_fn(move || {
        let text = rest?;
        let (body, after) = match text.find("\n---") {
            Some(at) => {
                let (body, separator) = text.split_at(at);
                let after = separator
                    .get(1..)
                    .and_then(|line| line.split_once('\n'))
                    .map(|(_, after)| after);
                (body, after)
            }
            None => (text, None),
        };
        let document = Document {
            index,
            lines_before,
            text: body,
        };
        index += 1;
        lines_before += body.matches('\n').count() + 2;
        rest = after;
        Some(document)
    })
}

/// The text of a file; a byte order mark is dropped.
pub fn text(bytes: &[u8]) -> Result<&str, Error> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Error::new(Some(line), "not valid UTF-8; save the file as UTF-8 text")
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// The first document of a text as a tree; an empty text is null.
pub fn parse(text: &str, dialect: Dialect) -> Result<Node, Error> {
    node::build(text, dialect)
}

/// Fills `T` from a tree. Unknown fields are ignored, null leaves a field at its empty value.
pub fn decode<T: DeserializeOwned>(node: &Node, dialect: Dialect) -> Result<T, Error> {
    T::deserialize(decode::Value { node, dialect })
}

#[cfg(test)]
mod tests;
