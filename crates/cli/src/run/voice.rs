//! What apps and sidecars say: taken line by line from their pipes, marked on the console, plain in a file.
//!
//! A thread per pipe, because a console that nobody reads from must not keep us from handling signals.

use super::options::Destination;
use crate::screen::{Colour, Screen};
use std::fs::File;
use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::sync::oneshot;

/// A longer line is shown in pieces.
const LINE: u64 = 64 << 10;
/// How long we wait for the last lines; somebody the app has started may keep its pipe open for ever.
const LAST: Duration = Duration::from_millis(500);

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaker {
    App,
    Sidecar,
}

/// Where the lines of one speaker go.
#[derive(Clone)]
pub(crate) struct Voice {
    speaker: Speaker,
    mark: String,
    screen: Screen,
    console: bool,
    /// Taken away when it cannot be written to any more, which is said once.
    file: Arc<Mutex<Option<File>>>,
}

/// The threads that read; see [`Readers::finish`].
#[derive(Default)]
pub(crate) struct Readers {
    ended: Vec<oneshot::Receiver<()>>,
}

impl Voice {
    /// Everything to the console, marked `== APP ==`.
    pub(crate) fn console(speaker: Speaker, screen: Screen) -> Self {
        Self {
            speaker,
            mark: format!("== {} == ", speaker.word()),
            screen,
            console: true,
            file: Arc::default(),
        }
    }

    /// One of several apps, marked `== APP - id ==` on the console.
    pub(crate) fn of(
        speaker: Speaker,
        id: &str,
        to: Destination,
        screen: Screen,
        file: Option<File>,
    ) -> Self {
        Self {
            speaker,
            mark: format!("== {} - {id} == ", speaker.word()),
            screen,
            console: to.console(),
            file: Arc::new(Mutex::new(file)),
        }
    }

    /// A pipe whose other end is read to its end by a thread.
    pub(crate) fn pipe(&self, readers: &mut Readers) -> io::Result<PipeWriter> {
        let (reader, writer) = io::pipe()?;
        let voice = self.clone();
        let (done, ended) = oneshot::channel();
        thread::Builder::new().name("output".to_owned()).spawn(move || {
            voice.read(reader);
            // Nobody waits any more when the session is over already.
            let _unheard = done.send(());
        })?;
        readers.ended.push(ended);
        Ok(writer)
    }

    fn read(&self, pipe: PipeReader) {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        loop {
            line.clear();
            match pipe.by_ref().take(LINE).read_until(b'\n', &mut line) {
                // A pipe ends; reading from one does not fail otherwise.
                Ok(0) | Err(_) => return,
                Ok(_) => self.say(line.strip_suffix(b"\n").unwrap_or(&line)),
            }
        }
    }

    fn say(&self, line: &[u8]) {
        if self.console {
            self.screen.write(&self.marked(line));
        }
        let mut place = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = place.as_mut() else { return };
        let mut plain = plain(line);
        plain.push(b'\n');
        if let Err(error) = file.write_all(&plain) {
            let mark = &self.mark;
            self.screen
                .warning(&format!("{mark}cannot write to the log file any more: {error}"));
            *place = None;
        }
    }

    fn marked(&self, line: &[u8]) -> Vec<u8> {
        let text = format!("{}{}", self.mark, String::from_utf8_lossy(line));
        let mut text = self.screen.paint(self.colour(line), &text).into_bytes();
        text.push(b'\n');
        text
    }

    fn colour(&self, line: &[u8]) -> Colour {
        let has = |word: &[u8]| line.windows(word.len()).any(|window| window == word);
        match self.speaker {
            Speaker::App => Colour::Blue,
            Speaker::Sidecar if has(b" level=error ") || has(b" level=fatal ") => Colour::Red,
            Speaker::Sidecar if has(b" level=warning ") => Colour::Yellow,
            Speaker::Sidecar => Colour::Grey,
        }
    }
}

impl Speaker {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::App => "APP",
            Self::Sidecar => "DAPR",
        }
    }
}

impl Readers {
    /// Waits for what was still in the pipes of processes that have ended.
    pub(crate) async fn finish(self) {
        let all = futures::future::join_all(self.ended);
        // What comes later is lost with us, or belongs to a process that was left behind.
        let _late = tokio::time::timeout(LAST, all).await;
    }
}

/// A line without the escape sequences that colour it.
fn plain(line: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(line.len() + 1);
    let mut bytes = line.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == 0x1b && bytes.next_if_eq(&b'[').is_some() {
            // Parameters, then one final byte.
            while bytes.next().is_some_and(|byte| !(0x40..=0x7e).contains(&byte)) {}
        } else {
            plain.push(byte);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::{Readers, Speaker, Voice, plain};
    use crate::run::options::Destination;
    use crate::screen::Screen;
    use std::io::Write;

    #[test]
    fn files_get_no_colour() {
        for (line, expected) in [
            ("a", "a"),
            ("\x1b[1;31mred\x1b[0m!", "red!"),
            ("\x1b[", ""),
            ("\x1bx", "\x1bx"),
        ] {
            assert_eq!(plain(line.as_bytes()), expected.as_bytes(), "{line:?}");
        }
    }

    #[tokio::test]
    async fn every_line_arrives_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let file = std::fs::File::create(&path).unwrap();
        let voice = Voice::of(
            Speaker::App,
            "a",
            Destination::File,
            Screen::open(true),
            Some(file),
        );
        let mut readers = Readers::default();
        let mut pipe = voice.pipe(&mut readers).unwrap();
        pipe.write_all(b"one\n\x1b[1mtwo\x1b[0m\n\nlast").unwrap();
        drop(pipe);
        readers.finish().await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n\nlast\n");
    }

    #[test]
    fn marks() {
        let screen = Screen::open(true);
        let voice = Voice::console(Speaker::Sidecar, screen);
        assert_eq!(voice.marked(b"x"), b"== DAPR == x\n");
        let voice = Voice::of(Speaker::App, "shop", Destination::Console, screen, None);
        assert_eq!(voice.marked(b"x"), b"== APP - shop == x\n");
    }
}
