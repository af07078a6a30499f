//! Structured log lines in the two formats of the reference, plus a readable one for terminals.
//!
//! A [`Log`] is a value: cheap to clone, handed down, narrowed with [`Log::scope`]. All clones share one output and
//! one level, which can be changed while running.
//!
//! INVARIANT: no line is dropped silently and lines of one caller keep their order. Callers render their line and
//! append it to a bounded buffer; one thread writes the buffer out as soon as anything is in it (see [`writer`]).
//! A caller waits only while that buffer is full, which happens when the reader of our stdout has stopped
//! reading: then waiting is what a plain write to the pipe would do as well, and losing lines would be worse.
//!
//! Deliberately absent: ending the process. [`Log::fatal`] writes the line; who decides to exit also exits.

pub(crate) mod format;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt::{self, Display};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use self::format::Layout;
use self::writer::Writer;

/// How serious a line is. Lines below the log's level are neither rendered nor written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

/// A level word that is none of debug, info, warn, error, fatal.
#[derive(Debug, thiserror::Error)]
#[error("unknown log level \"{0}\": use debug, info, warn, error or fatal")]
pub struct UnknownLevel(String);

/// The shape of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `time="…" level=info msg="…" app_id=… instance=… scope=… type=log ver=…`
    Text,
    /// One JSON object per line, keys sorted, `<`, `>` and `&` escaped.
    Json,
    /// Short and coloured, for people at a terminal; not meant to be parsed.
    Colour,
}

/// Where lines go.
pub enum Output {
    Stdout,
    /// Appended to; created when missing.
    File(PathBuf),
    /// Anything else, for tests and for embedding.
    Writer(Box<dyn io::Write + Send>),
}

/// What a log is opened with.
pub struct Config {
    pub level: Level,
    pub format: Format,
    pub output: Output,
    /// `app_id` of each line; absent for control-plane processes.
    pub app_id: Option<String>,
    /// `instance` of each line: the host's name, see [`hostname`].
    pub instance: String,
    /// `ver` of each line.
    pub version: String,
    /// `scope` of lines from the log that [`Log::open`] returns.
    pub scope: String,
}

/// A log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to open log file \"{path}\": {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("failed to open stdout for the log: {0}")]
    Stdout(io::Error),
    #[error("failed to start the log writer thread: {0}")]
    Thread(io::Error),
}

/// Value of an extra field.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    Text(&'a str),
    Unsigned(u64),
    Signed(i64),
}

/// An extra field of one line: key and value.
pub type Field<'a> = (&'a str, Value<'a>);

/// A handle to write lines with, all under one scope.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
    layout: Arc<Layout>,
}

struct Shared {
    level: AtomicU8,
    writer: Writer,
}

impl Log {
    /// Opens the output and starts its writer thread, which ends when the last clone is dropped.
    pub fn open(config: Config) -> Result<Self, Error> {
        let output: Box<dyn io::Write + Send> = match config.output {
            Output::Stdout => Box::new(stdout().map_err(Error::Stdout)?),
            Output::File(path) => Box::new(append(&path).map_err(|source| Error::File { path, source })?),
            Output::Writer(writer) => writer,
        };
        Ok(Self {
            shared: Arc::new(Shared {
                level: AtomicU8::new(config.level as u8),
                writer: Writer::start(output).map_err(Error::Thread)?,
            }),
            layout: Arc::new(Layout::new(
                config.format,
                config.app_id.as_deref(),
                &config.instance,
                &config.version,
                &config.scope,
            )),
        })
    }

    /// The same log under another scope.
    pub fn scope(&self, scope: &str) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            layout: Arc::new(self.layout.with_scope(scope)),
        }
    }

    /// Whether lines of this level are written at present.
    pub fn enabled(&self, level: Level) -> bool {
        level as u8 >= self.shared.level.load(Ordering::Relaxed)
    }

    /// Changes the level of this log and of everything cloned or scoped from the same [`Log::open`].
    pub fn set_level(&self, level: Level) {
        self.shared.level.store(level as u8, Ordering::Relaxed);
    }

    pub fn debug(&self, message: impl Display) {
        self.write(Level::Debug, &[], message);
    }

    pub fn info(&self, message: impl Display) {
        self.write(Level::Info, &[], message);
    }

    pub fn warn(&self, message: impl Display) {
        self.write(Level::Warn, &[], message);
    }

    pub fn error(&self, message: impl Display) {
        self.write(Level::Error, &[], message);
    }

    /// Writes a line of level `fatal`. The caller ends the process, after [`Log::flush`].
    pub fn fatal(&self, message: impl Display) {
        self.write(Level::Fatal, &[], message);
    }

    /// Writes a line with extra fields, which are sorted in among the usual ones; for example the access log's
    /// `method`, `useragent`, `code`, `duration` and `size`. The message is rendered only if the level is enabled.
    pub fn write(&self, level: Level, fields: &[Field<'_>], message: impl Display) {
        if self.enabled(level) {
            self.shared
                .writer
                .append(self.layout.render(level, fields, &message).as_bytes());
        }
    }

    /// Returns once every line appended before the call has been handed to the operating system, or could not be.
    pub fn flush(&self) {
        self.shared.writer.flush();
    }

    /// How many bytes of lines the output refused (closed pipe, full disk).
    pub fn lost_bytes(&self) -> u64 {
        self.shared.writer.lost()
    }
}

impl Level {
    /// The word in the line; `warning`, not `warn`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        // COMPAT(dapr/kit logger): case does not matter.
        Ok(match text.to_ascii_lowercase().as_str() {
            "debug" => Self::Debug,
            "info" => Self::Info,
            "warn" | "warning" => Self::Warn,
            "error" => Self::Error,
            "fatal" => Self::Fatal,
            _ => return Err(UnknownLevel(text.to_owned())),
        })
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("scope", &self.layout.scope())
            .finish_non_exhaustive()
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Self::Unsigned(number)
    }
}

impl From<u16> for Value<'_> {
    fn from(number: u16) -> Self {
        Self::Unsigned(number.into())
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Signed(number)
    }
}

/// The host's name, for [`Config::instance`]. Bytes that are not UTF-8 are replaced.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The format the reference would choose: JSON when asked for, colour when stdout is a terminal, else text.
pub fn format_for(json: bool, output: &Output) -> Format {
    match output {
        _ if json => Format::Json,
        Output::Stdout if io::IsTerminal::is_terminal(&io::stdout()) => Format::Colour,
        _ => Format::Text,
    }
}

/// Stdout without the standard library's line buffer, so that a batch of lines is one system call.
fn stdout() -> io::Result<std::fs::File> {
    Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
}

fn append(path: &Path) -> io::Result<std::fs::File> {
    std::fs::OpenOptions::new().create(true).append(true).open(path)
}
