//! What people see: status lines, coloured on a terminal and plain in a pipe.
//!
//! A reader that has gone away is no reason to stop what we were asked to run, so lines that cannot be written are
//! dropped here, and only here.

use std::io::{self, IsTerminal, Write};

/// Standard output, and standard error for failures, as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Screen {
    terminal: bool,
    error_terminal: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Red,
    Yellow,
    Green,
    Blue,
    Grey,
    Bold,
}

impl Screen {
    /// `NO_COLOR` in the environment makes a terminal a plain one.
    pub(crate) fn open(no_colour: bool) -> Self {
        Self {
            terminal: io::stdout().is_terminal() && !no_colour,
            error_terminal: io::stderr().is_terminal() && !no_colour,
        }
    }

    pub(crate) fn is_terminal(self) -> bool {
        self.terminal
    }

    pub(crate) fn success(self, text: &str) {
        self.status("✅  ", Colour::Green, text);
    }

    pub(crate) fn info(self, text: &str) {
        self.status("ℹ️  ", Colour::Bold, text);
    }

    pub(crate) fn warning(self, text: &str) {
        self.status("⚠  ", Colour::Yellow, text);
    }

    /// To standard error.
    pub(crate) fn failure(self, text: &str) {
        let line = match self.error_terminal {
            true => format!("❌  \x1b[{}m{text}\x1b[0m\n", Colour::Red.code()),
            false => format!("{text}\n"),
        };
        let _dropped = io::stderr().lock().write_all(line.as_bytes());
    }

    /// As it is.
    pub(crate) fn line(self, text: &str) {
        self.write(format!("{text}\n").as_bytes());
    }

    /// Bytes in one piece, so that lines of several threads do not mix.
    pub(crate) fn write(self, bytes: &[u8]) {
        let mut out = io::stdout().lock();
        let _dropped = out.write_all(bytes).and_then(|()| out.flush());
    }

    pub(crate) fn paint(self, colour: Colour, text: &str) -> String {
        match self.terminal {
            true => format!("\x1b[{}m{text}\x1b[0m", colour.code()),
            false => text.to_owned(),
        }
    }

    fn status(self, symbol: &str, colour: Colour, text: &str) {
        let symbol = if self.terminal { symbol } else { "" };
        self.line(&format!("{symbol}{}", self.paint(colour, text)));
    }
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Self::Red => "91",
            Self::Yellow => "93",
            Self::Green => "92",
            Self::Blue => "94",
            Self::Grey => "90",
            Self::Bold => "1",
        }
    }
}

/// Rows as a table with aligned columns, two blanks apart; the first row is the heading.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Colour, Screen, table};

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["APP", "PORT"], vec!["läng", "1"], vec!["", "65535"]];
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.iter().map(|&cell| cell.to_owned()).collect())
            .collect();
        assert_eq!(table(&rows), "APP   PORT\nläng  1\n      65535\n");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn a_pipe_gets_no_colour() {
        let screen = |terminal| Screen {
            terminal,
            error_terminal: terminal,
        };
        assert_eq!(screen(false).paint(Colour::Red, "x"), "x");
        assert_eq!(screen(true).paint(Colour::Red, "x"), "\x1b[91mx\x1b[0m");
    }
}
