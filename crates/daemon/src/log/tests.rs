use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use super::format::{Layout, quoted};
use super::{Config, Field, Format, Level, Log, Output, Value};

fn layout(format: Format) -> Layout {
    Layout::new(format, Some("myapp"), "host-1", "1.18.3", "dapr.runtime")
}

fn line(format: Format, level: Level, fields: &[Field<'_>], message: &str) -> String {
    let time = "2026-11-21T09:02:28.1234Z".parse().unwrap();
    layout(format).render_at(time, level, fields, &message)
}

const TIME: &str = "time=\"2026-11-21T09:02:28.1234Z\"";
const TAIL: &str = "app_id=myapp instance=host-1 scope=dapr.runtime type=log ver=1.18.3\n";

#[test]
fn text_lines() {
    let rows: &[(Level, &str, &str)] = &[
        (Level::Info, "ready", "level=info msg=ready"),
        (Level::Warn, "a b", "level=warning msg=\"a b\""),
        (Level::Error, "say \"hi\"", r#"level=error msg="say \"hi\"""#),
        (
            Level::Debug,
            "one\ntwo\ttab",
            r#"level=debug msg="one\ntwo\ttab""#,
        ),
        (Level::Fatal, r"C:\temp", r#"level=fatal msg="C:\\temp""#),
        (
            Level::Info,
            "bell\x07 nul\0 del\x7f",
            r#"level=info msg="bell\a nul\x00 del\x7f""#,
        ),
        (Level::Info, "grüße", "level=info msg=\"grüße\""),
        (
            Level::Info,
            "nbsp\u{a0}bom\u{feff}",
            r#"level=info msg="nbsp\u00a0bom\ufeff""#,
        ),
        (Level::Info, "tag\u{e0001}", r#"level=info msg="tag\U000e0001""#),
        (Level::Info, "e\u{301}", "level=info msg=\"e\u{301}\""),
        (Level::Info, "a-b.c_d/e@f^g+h", "level=info msg=a-b.c_d/e@f^g+h"),
        (Level::Info, "k=v", "level=info msg=\"k=v\""),
        (Level::Info, "", "level=info"),
    ];
    for (level, message, expect) in rows {
        assert_eq!(
            line(Format::Text, *level, &[], message),
            format!("{TIME} {expect} {TAIL}"),
            "{message:?}"
        );
    }
}

#[test]
fn extra_fields_sort_in() {
    let fields: &[Field<'_>] = &[
        ("method", Value::Text("GET /v1.0/state/s/k")),
        ("useragent", Value::Text("curl/8")),
        ("code", Value::Unsigned(200)),
        ("duration", Value::Signed(3)),
        ("size", Value::Unsigned(0)),
        ("level", Value::Text("own")),
        ("scope", Value::Text("other")),
    ];
    assert_eq!(
        line(Format::Text, Level::Info, fields, "HTTP API Called"),
        format!(
            "{TIME} level=info msg=\"HTTP API Called\" app_id=myapp code=200 duration=3 instance=host-1 \
             fields.level=own method=\"GET /v1.0/state/s/k\" scope=other size=0 type=log useragent=curl/8 ver=1.18.3\n"
        )
    );
    let json = line(Format::Json, Level::Info, &fields[..6], "HTTP API Called");
    assert_eq!(
        json,
        "{\"app_id\":\"myapp\",\"code\":200,\"duration\":3,\"instance\":\"host-1\",\"level\":\"info\",\
         \"fields.level\":\"own\",\"method\":\"GET /v1.0/state/s/k\",\"msg\":\"HTTP API Called\",\
         \"scope\":\"dapr.runtime\",\"size\":0,\"time\":\"2026-11-21T09:02:28.1234Z\",\"type\":\"log\",\
         \"useragent\":\"curl/8\",\"ver\":\"1.18.3\"}\n"
    );
}

#[test]
fn json_escapes() {
    let rows = [
        ("plain", "plain"),
        ("<a href=\"x\">&", r#"\u003ca href=\"x\"\u003e\u0026"#),
        ("back\\slash", r"back\\slash"),
        ("\u{8}\u{c}\n\r\t\u{1}", r"\b\f\n\r\t\u0001"),
        ("\u{2028}\u{2029}", r"\u2028\u2029"),
        ("\u{7f}é", "\u{7f}é"),
    ];
    for (message, expect) in rows {
        let json = line(Format::Json, Level::Info, &[], message);
        assert!(
            json.contains(&format!("\"msg\":\"{expect}\"")),
            "{message:?}: {json}"
        );
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["msg"], message, "{json}");
    }
}

#[test]
fn colour_lines_cannot_drive_the_terminal() {
    let shown = line(
        Format::Colour,
        Level::Warn,
        &[("code", Value::Unsigned(7))],
        "clear\x1b[2J",
    );
    assert!(
        shown.contains("WARN") && shown.contains("code=7") && shown.contains("dapr.runtime"),
        "{shown}"
    );
    assert!(!shown.contains("\x1b[2J"), "{shown:?}");
}

#[test]
fn level_words() {
    let rows = [
        ("debug", Level::Debug),
        ("INFO", Level::Info),
        ("warn", Level::Warn),
        ("Error", Level::Error),
    ];
    for (word, level) in rows {
        assert_eq!(word.parse::<Level>().unwrap(), level);
    }
    let error = "loud".parse::<Level>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown log level \"loud\": use debug, info, warn, error or fatal"
    );
    assert_eq!(quoted("a\"b"), r#""a\"b""#);
}

fn open(output: impl Write + Send + 'static) -> Log {
    Log::open(Config {
        level: Level::Info,
        format: Format::Text,
        output: Output::Writer(Box::new(output)),
        app_id: None,
        instance: "h".to_owned(),
        version: "v".to_owned(),
        scope: "s".to_owned(),
    })
    .unwrap()
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Unprintable;

impl std::fmt::Display for Unprintable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("rendered although the level is off")
    }
}

#[test]
fn level_changes_for_all_clones_and_spares_rendering() {
    let out = Shared::default();
    let log = open(out.clone());
    let scoped = log.scope("dapr.other");
    scoped.debug(Unprintable);
    log.set_level(Level::Debug);
    scoped.debug("seen");
    log.flush();
    let text = out.text();
    assert!(
        text.contains("level=debug msg=seen instance=h scope=dapr.other type=log ver=v"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn lines_of_a_caller_keep_their_order_and_drop_flushes() {
    let out = Shared::default();
    let log = open(out.clone());
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let log = log.scope(&format!("t{thread}"));
            std::thread::spawn(move || (0..500).for_each(|n| log.info(n)))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    drop(log);
    let text = out.text();
    for thread in 0..4 {
        let scope = format!("scope=t{thread} ");
        let numbers: Vec<String> = text
            .lines()
            .filter(|line| line.contains(&scope))
            .map(|line| {
                line.split("msg=")
                    .nth(1)
                    .unwrap()
                    .split(' ')
                    .next()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        assert_eq!(numbers, (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}

/// An output that accepts a write only when told to.
struct Gate {
    entered: Sender<usize>,
    release: Receiver<io::Result<()>>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.entered.send(bytes.len()).unwrap();
        self.release.recv().unwrap()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_output_makes_callers_wait_and_loses_nothing() {
    let (entered, writes) = channel();
    let (open_gate, release) = channel();
    let log = open(Gate { entered, release });
    log.info("first");
    writes.recv().unwrap(); // the writer is inside `write` now; all that follows gathers
    let filler = "x".repeat(100 << 10);
    let (done, finished) = channel();
    let caller = {
        let log = log.clone();
        std::thread::spawn(move || {
            (0..12).for_each(|_| log.info(&filler));
            done.send(()).unwrap();
        })
    };
    assert!(
        finished
            .recv_timeout(std::time::Duration::from_millis(100))
            .is_err(),
        "the buffer is bounded"
    );
    (0..20).for_each(|_| open_gate.send(Ok(())).unwrap());
    finished.recv().unwrap();
    caller.join().unwrap();
    log.flush();
    let gathered: usize = writes.try_iter().sum();
    assert!(gathered > 12 * (100 << 10), "{gathered}");
    assert_eq!(log.lost_bytes(), 0);
}

#[test]
fn a_closed_output_is_counted_and_does_not_stop_callers() {
    let (entered, _writes) = channel();
    let (open_gate, release) = channel();
    let log = open(Gate { entered, release });
    open_gate.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
    log.info("nobody listens");
    log.flush();
    assert!(log.lost_bytes() > 0);
}

#[test]
fn files_are_appended_to_and_their_absence_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("daprd.log");
    std::fs::write(&path, "before\n").unwrap();
    let config = |path| Config {
        level: Level::Info,
        format: Format::Json,
        output: Output::File(path),
        app_id: None,
        instance: super::hostname(),
        version: "v".to_owned(),
        scope: "s".to_owned(),
    };
    let log = Log::open(config(path.clone())).unwrap();
    log.info("after");
    drop(log);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.starts_with("before\n{") && text.contains("\"msg\":\"after\""),
        "{text}"
    );
    let missing = dir.path().join("no/such/dir.log");
    let error = Log::open(config(missing)).unwrap_err().to_string();
    assert!(
        error.starts_with("failed to open log file \"") && error.contains("dir.log"),
        "{error}"
    );
}
