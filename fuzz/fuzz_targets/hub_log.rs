//! The hub's log: bytes that are no log, logs with any records, and logs that were cut, damaged or half written.
//!
//! The first byte chooses. Even: the rest is a segment file as it stands. Odd: the rest is a list of instructions from
//! which a log with right checksums is built, because no mutation finds a checksum; then it is harmed as instructed.
//! Every sixteenth input is opened by a hub, which must refuse it in words or recover it, and then again recover it.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use outrigger_daemon::drain;
use outrigger_daemon::log::{self, Log};
use outrigger_hub::config::Config;
use outrigger_hub::{Hub, inspect};
use std::path::Path;
use std::sync::OnceLock;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, rest)) = input.split_first() else {
        return;
    };
    let files = if choice & 1 == 0 {
        vec![(0, rest.to_vec())]
    } else {
        Build::default().files(rest)
    };
    for (_, bytes) in &files {
        let length = bytes.len() as u64;
        let mut seen = 0;
        let read = inspect::segment(Bytes::copy_from_slice(bytes), &mut |_, text| {
            assert!(!text.is_empty());
            seen += 1;
        });
        match read {
            Ok(summary) => {
                assert_eq!(summary.records, seen);
                assert!(summary.end <= length);
            }
            Err(sentence) => assert!(!sentence.is_empty()),
        }
    }
    if choice & 0x1e == 0x1e {
        recover(&files);
    }
});

/// What is recovered can be recovered again.
fn recover(files: &[(u64, Vec<u8>)]) {
    let home = tempfile::tempdir_in("/dev/shm").expect("memory for a folder");
    let folder = home.path().join("hub").join("log");
    std::fs::create_dir_all(&folder).expect("a new folder");
    for (base, bytes) in files {
        std::fs::write(folder.join(format!("{base:020}.log")), bytes).expect("a new file");
    }
    if let Some(refused) = open_and_end(home.path()) {
        assert!(!refused.is_empty());
        return;
    }
    if let Some(refused) = open_and_end(home.path()) {
        panic!("opened once, and then refused: {refused}");
    }
}

/// `None` when the hub opened, served nobody, and ended well.
fn open_and_end(home: &Path) -> Option<String> {
    static LOG: OnceLock<Log> = OnceLock::new();
    let log = LOG.get_or_init(|| {
        Log::open(log::Config {
            level: log::Level::Debug,
            format: log::Format::Text,
            output: log::Output::Writer(Box::new(std::io::sink())),
            app_id: None,
            instance: "fuzz".to_owned(),
            version: "edge".to_owned(),
            scope: "fuzz".to_owned(),
        })
        .expect("a log that goes nowhere")
    });
    let hub = match Hub::open(Config::new(home), log.clone()) {
        Ok(hub) => hub,
        Err(error) => return Some(error.to_string()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (stop, watch) = drain::channel();
    stop.fire();
    runtime
        .block_on(hub.serve(watch))
        .expect("a socket in a new folder");
    None
}

/// Segment files under construction. Source: `docs/hub.md` and the header of `crates/hub/src/log/frame.rs`.
#[derive(Default)]
struct Build {
    files: Vec<(u64, Vec<u8>)>,
    frame: Vec<u8>,
    records: u32,
    sequence: u64,
}

const LOG_ID: u64 = 0x0123_4567_89ab_cdef;

impl Build {
    fn files(mut self, mut from: &[u8]) -> Vec<(u64, Vec<u8>)> {
        self.segment(0);
        while let Some((&instruction, rest)) = from.split_first() {
            from = rest;
            match instruction % 16 {
                // A record with any body.
                0..=8 => {
                    let length = usize::from(take(&mut from));
                    let (body, rest) = from.split_at(length.min(from.len()));
                    from = rest;
                    self.frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
                    self.frame.extend_from_slice(body);
                    self.records += 1;
                }
                // The end of a frame.
                9..=11 => self.end_frame(self.records, u64::from(take(&mut from) % 4)),
                // Likewise, with a count that may be wrong.
                12 => {
                    let records = u32::from(take(&mut from));
                    self.end_frame(records, 0);
                }
                13 => {
                    self.end_frame(self.records, 0);
                    self.segment(self.sequence);
                }
                14 => {
                    // Reserved room.
                    let (_, file) = self.files.last_mut().expect("begins with one");
                    file.resize(file.len() + usize::from(take(&mut from)), 0);
                }
                _ => self.harm(&mut from),
            }
        }
        self.end_frame(self.records, 0);
        self.files
    }

    fn segment(&mut self, base: u64) {
        let mut header = [0; 64];
        header[..8].copy_from_slice(b"ORHUBLOG");
        header[8..12].copy_from_slice(&1_u32.to_le_bytes());
        header[16..24].copy_from_slice(&LOG_ID.to_le_bytes());
        header[24..32].copy_from_slice(&base.to_le_bytes());
        let sum = crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..]);
        header[12..16].copy_from_slice(&sum.to_le_bytes());
        if self.files.iter().all(|(existing, _)| *existing != base) {
            self.files.push((base, header.to_vec()));
        }
    }

    /// `lag`: how many records were not yet durable when the frame was written.
    fn end_frame(&mut self, records: u32, lag: u64) {
        let payload = std::mem::take(&mut self.frame);
        let mut header = [0; 40];
        header[..4].copy_from_slice(b"\xF4OHF");
        header[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        header[12..16].copy_from_slice(&records.to_le_bytes());
        header[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        header[24..32].copy_from_slice(&self.sequence.saturating_sub(lag).to_le_bytes());
        let mut sum = crc32c::crc32c(&LOG_ID.to_le_bytes());
        sum = crc32c::crc32c_append(sum, &header[4..8]);
        sum = crc32c::crc32c_append(sum, &header[12..]);
        sum = crc32c::crc32c_append(sum, &payload);
        header[8..12].copy_from_slice(&sum.to_le_bytes());
        let (_, file) = self.files.last_mut().expect("begins with one");
        file.extend_from_slice(&header);
        file.extend_from_slice(&payload);
        self.sequence += u64::from(records);
        self.records = 0;
    }

    /// Changes a byte near the end of a file, or cuts the file there.
    fn harm(&mut self, from: &mut &[u8]) {
        let which = usize::from(take(from)) % self.files.len();
        let back = usize::from(take(from)) + 1;
        let change = take(from);
        let (_, file) = &mut self.files[which];
        let at = file.len().saturating_sub(back);
        match file.get_mut(at) {
            Some(byte) if change != 0 => *byte ^= change,
            _ => file.truncate(at),
        }
    }
}

fn take(from: &mut &[u8]) -> u8 {
    match from.split_first() {
        Some((&byte, rest)) => {
            *from = rest;
            byte
        }
        None => 0,
    }
}
