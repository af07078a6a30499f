//! Rendering of one line.
//!
//! What does not change between lines of one scope (app id, host, scope, version) is rendered once, so that a line
//! costs one allocation and a copy.
//!
//! COMPAT(dapr/kit logger over logrus): key order, quoting and escaping are what existing log parsers and the
//! integration suite read.

use std::fmt::{self, Display, Write};

use super::{Field, Format, Level, Value};

/// Everything about lines of one scope that stays the same.
#[derive(Clone)]
pub(super) struct Layout {
    format: Format,
    /// Fields of every line, sorted by key.
    fixed: Vec<Fixed>,
    /// `fixed` in one piece, for the usual text line without extra fields.
    tail: String,
}

#[derive(Clone)]
struct Fixed {
    key: &'static str,
    value: String,
    /// `key=value` or `"key":"value"`, quoted as the format demands.
    rendered: String,
}

const SCOPE: &str = "scope";

impl Layout {
    pub(super) fn new(
        format: Format,
        app_id: Option<&str>,
        instance: &str,
        version: &str,
        scope: &str,
    ) -> Self {
        let mut fixed = Vec::with_capacity(5);
        if let Some(app_id) = app_id {
            fixed.push(Fixed::new(format, "app_id", app_id));
        }
        fixed.push(Fixed::new(format, "instance", instance));
        fixed.push(Fixed::new(format, SCOPE, scope));
        fixed.push(Fixed::new(format, "type", "log"));
        fixed.push(Fixed::new(format, "ver", version));
        let tail = tail(&fixed);
        Self { format, fixed, tail }
    }

    pub(super) fn with_scope(&self, scope: &str) -> Self {
        let mut fixed = self.fixed.clone();
        for field in &mut fixed {
            if field.key == SCOPE {
                *field = Fixed::new(self.format, SCOPE, scope);
            }
        }
        let tail = tail(&fixed);
        Self {
            format: self.format,
            fixed,
            tail,
        }
    }

    pub(super) fn scope(&self) -> &str {
        self.fixed
            .iter()
            .find(|field| field.key == SCOPE)
            .map_or("", |field| &field.value)
    }

    /// The whole line, newline included.
    pub(super) fn render(&self, level: Level, fields: &[Field<'_>], message: &dyn Display) -> String {
        self.render_at(jiff::Timestamp::now(), level, fields, message)
    }

    pub(super) fn render_at(
        &self,
        time: jiff::Timestamp,
        level: Level,
        fields: &[Field<'_>],
        message: &dyn Display,
    ) -> String {
        let mut line = String::with_capacity(self.tail.len() + 192);
        match self.format {
            Format::Text => self.text(&mut line, time, level, fields, message),
            Format::Json => self.json(&mut line, time, level, fields, message),
            Format::Colour => self.colour(&mut line, time, level, fields, message),
        }
        line.push('\n');
        line
    }

    fn text(
        &self,
        line: &mut String,
        time: jiff::Timestamp,
        level: Level,
        fields: &[Field<'_>],
        message: &dyn Display,
    ) {
        push(line, format_args!("time=\"{time}\" level={}", level.word()));
        let start = line.len();
        line.push_str(" msg=\"");
        let body = line.len();
        push(&mut Quoted(line), message);
        if line.len() == body {
            line.truncate(start); // COMPAT(logrus): an empty message has no key at all
        } else if line[body..].bytes().all(is_bare) {
            line.remove(body - 1);
        } else {
            line.push('"');
        }
        if fields.is_empty() {
            line.push_str(&self.tail);
            return;
        }
        for (_, piece) in merge(&self.fixed, [], fields) {
            line.push(' ');
            match piece {
                Piece::Fixed(field) => line.push_str(&field.rendered),
                Piece::Extra(prefix, (key, value)) => {
                    push(line, format_args!("{prefix}{key}="));
                    match value {
                        Value::Text(text) => push_text_value(line, text),
                        Value::Unsigned(number) => push(line, number),
                        Value::Signed(number) => push(line, number),
                    }
                }
                Piece::Head(_) => {}
            }
        }
    }

    fn json(
        &self,
        line: &mut String,
        time: jiff::Timestamp,
        level: Level,
        fields: &[Field<'_>],
        message: &dyn Display,
    ) {
        let mut separator = '{';
        for (_, piece) in merge(&self.fixed, [Head::Level, Head::Message, Head::Time], fields) {
            line.push(separator);
            separator = ',';
            match piece {
                Piece::Fixed(field) => line.push_str(&field.rendered),
                Piece::Head(Head::Level) => push(line, format_args!("\"level\":\"{}\"", level.word())),
                Piece::Head(Head::Time) => push(line, format_args!("\"time\":\"{time}\"")),
                Piece::Head(Head::Message) => {
                    line.push_str("\"msg\":\"");
                    push(&mut JsonEscaped(line), message);
                    line.push('"');
                }
                Piece::Extra(prefix, (key, value)) => {
                    line.push('"');
                    push(&mut JsonEscaped(line), format_args!("{prefix}{key}"));
                    line.push_str("\":");
                    match value {
                        Value::Text(text) => push_json_string(line, text),
                        Value::Unsigned(number) => push(line, number),
                        Value::Signed(number) => push(line, number),
                    }
                }
            }
        }
        line.push('}');
    }

    fn colour(
        &self,
        line: &mut String,
        time: jiff::Timestamp,
        level: Level,
        fields: &[Field<'_>],
        message: &dyn Display,
    ) {
        let (colour, word) = match level {
            Level::Debug => (90, "DEBUG"),
            Level::Info => (36, "INFO "),
            Level::Warn => (33, "WARN "),
            Level::Error => (31, "ERROR"),
            Level::Fatal => (31, "FATAL"),
        };
        let clock = time.strftime("%H:%M:%S%.3f");
        push(
            line,
            format_args!("\x1b[90m{clock}\x1b[0m \x1b[{colour}m{word}\x1b[0m "),
        );
        push(&mut Printable(line), message);
        push(line, format_args!("  \x1b[90m{}", self.scope()));
        for (key, value) in fields {
            push(line, format_args!(" {key}="));
            match value {
                Value::Text(text) => push_text_value(line, text),
                Value::Unsigned(number) => push(line, number),
                Value::Signed(number) => push(line, number),
            }
        }
        line.push_str("\x1b[0m");
    }
}

impl Fixed {
    fn new(format: Format, key: &'static str, value: &str) -> Self {
        let mut rendered = String::new();
        if format == Format::Json {
            push(&mut rendered, format_args!("\"{key}\":"));
            push_json_string(&mut rendered, value);
        } else {
            push(&mut rendered, format_args!("{key}="));
            push_text_value(&mut rendered, value);
        }
        Self {
            key,
            value: value.to_owned(),
            rendered,
        }
    }
}

fn tail(fixed: &[Fixed]) -> String {
    fixed.iter().flat_map(|field| [" ", &field.rendered]).collect()
}

/// What the formatter writes itself.
#[derive(Clone, Copy)]
enum Head {
    Level,
    Message,
    Time,
}

impl Head {
    fn key(self) -> &'static str {
        match self {
            Self::Level => "level",
            Self::Message => "msg",
            Self::Time => "time",
        }
    }
}

enum Piece<'a> {
    Head(Head),
    Fixed(&'a Fixed),
    Extra(&'static str, Field<'a>),
}

/// All fields of a line in the order of their keys. An extra field replaces a fixed one of the same key;
/// one that would collide with the formatter's own keys is prefixed, as the reference does.
fn merge<'a, const N: usize>(
    fixed: &'a [Fixed],
    head: [Head; N],
    extra: &'a [Field<'a>],
) -> Vec<(&'a str, Piece<'a>)> {
    let mut all: Vec<(&str, Piece<'_>)> = Vec::with_capacity(fixed.len() + N + extra.len());
    all.extend(head.map(|head| (head.key(), Piece::Head(head))));
    all.extend(
        fixed
            .iter()
            .filter(|field| extra.iter().all(|(key, _)| *key != field.key))
            .map(|field| (field.key, Piece::Fixed(field))),
    );
    all.extend(extra.iter().map(|field| {
        let prefix = if matches!(field.0, "time" | "level" | "msg") {
            "fields."
        } else {
            ""
        };
        (field.0, Piece::Extra(prefix, *field))
    }));
    all.sort_by_key(|(key, _)| *key);
    all
}

fn push_text_value(line: &mut String, value: &str) {
    if value.bytes().all(is_bare) {
        line.push_str(value);
    } else {
        line.push('"');
        push(&mut Quoted(line), value);
        line.push('"');
    }
}

/// The text as a Go `%q` literal, quotes included: how the reference shows a value inside a message.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    push(&mut Quoted(&mut out), text);
    out.push('"');
    out
}

/// Appends a JSON string literal, quotes included, with the escapes that Go's encoder uses.
pub(crate) fn push_json_string(out: &mut String, value: &str) {
    out.push('"');
    push(&mut JsonEscaped(out), value);
    out.push('"');
}

/// Bytes that need no quotes around them in a text line.
fn is_bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'/' | b'@' | b'^' | b'+')
}

/// Formatting into a string cannot fail; a `Display` that reports an error has its partial text kept.
fn push(out: &mut impl Write, value: impl Display) {
    if write!(out, "{value}").is_err() {
        // The only source of an error is the value's own `Display`. What it wrote so far stays in the line.
    }
}

/// Escapes as the inside of a Go `%q` literal.
struct Quoted<'a>(&'a mut String);

impl Write for Quoted<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut clean = 0;
        for (at, char) in text.char_indices() {
            let plain = matches!(char, ' '..='~') && !matches!(char, '"' | '\\');
            if plain || (!char.is_ascii() && is_print(char)) {
                continue;
            }
            self.0.push_str(&text[clean..at]);
            clean = at + char.len_utf8();
            match char {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                '\x07' => self.0.push_str("\\a"),
                '\x08' => self.0.push_str("\\b"),
                '\x0c' => self.0.push_str("\\f"),
                '\n' => self.0.push_str("\\n"),
                '\r' => self.0.push_str("\\r"),
                '\t' => self.0.push_str("\\t"),
                '\x0b' => self.0.push_str("\\v"),
                _ if char.is_ascii() => write!(self.0, "\\x{:02x}", u32::from(char))?,
                _ if u32::from(char) < 0x10000 => write!(self.0, "\\u{:04x}", u32::from(char))?,
                _ => write!(self.0, "\\U{:08x}", u32::from(char))?,
            }
        }
        self.0.push_str(&text[clean..]);
        Ok(())
    }
}

/// Whether a character beyond ASCII is shown as it is: graphic, and not a space.
fn is_print(char: char) -> bool {
    // `escape_debug` of a string escapes what is not printable, and combining marks only at its start: hence the
    // leading letter.
    let mut probe = [b'x'; 5];
    let length = 1 + char.encode_utf8(&mut probe[1..]).len();
    std::str::from_utf8(&probe[..length]).is_ok_and(|probe| !probe.escape_debug().any(|c| c == '\\'))
}

/// Escapes as the inside of a JSON string, HTML characters and the two Unicode line separators included.
struct JsonEscaped<'a>(&'a mut String);

impl Write for JsonEscaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut clean = 0;
        for (at, char) in text.char_indices() {
            let escape = match char {
                '"' => "\\\"",
                '\\' => "\\\\",
                '\x08' => "\\b",
                '\x0c' => "\\f",
                '\n' => "\\n",
                '\r' => "\\r",
                '\t' => "\\t",
                '<' => "\\u003c",
                '>' => "\\u003e",
                '&' => "\\u0026",
                '\u{2028}' => "\\u2028",
                '\u{2029}' => "\\u2029",
                '\0'..='\x1f' => "",
                _ => continue,
            };
            self.0.push_str(&text[clean..at]);
            clean = at + char.len_utf8();
            if escape.is_empty() {
                write!(self.0, "\\u{:04x}", u32::from(char))?;
            } else {
                self.0.push_str(escape);
            }
        }
        self.0.push_str(&text[clean..]);
        Ok(())
    }
}

/// Keeps a message from driving the terminal: control characters other than newline and tab are shown escaped.
struct Printable<'a>(&'a mut String);

impl Write for Printable<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            if char.is_control() && !matches!(char, '\n' | '\t') {
                write!(self.0, "{}", char.escape_default())?;
            } else {
                self.0.push(char);
            }
        }
        Ok(())
    }
}
