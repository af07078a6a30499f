//! `process_…`: what the operating system says about this process.
//!
//! COMPAT(prometheus client_golang process collector): names, help texts and units, without namespace and labels.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{Expose, Registry, text};

/// Adds the `process_…` families, read from `/proc/self` at each exposition. Elsewhere than on Linux none appear.
pub fn process(registry: &Registry) {
    registry.add("process", std::sync::Arc::new(Process));
}

struct Process;

/// What `/proc` tells, in base units.
struct Reading {
    cpu_seconds: f64,
    open_files: Option<usize>,
    max_files: Option<u64>,
    resident_bytes: u64,
    virtual_bytes: u64,
    /// All that a process may have; what knows no limit reads 2^64 - 1.
    max_virtual_bytes: u64,
    start_seconds: Option<f64>,
    network: Option<Network>,
}

/// What went through the IP stack of this process's network namespace.
#[derive(Debug, PartialEq)]
struct Network {
    received_bytes: f64,
    sent_bytes: f64,
}

impl Expose for Process {
    fn expose(&self, out: &mut String) {
        // A system without `/proc` has nothing to show here, and says so by its absence.
        let Ok(reading) = Reading::take() else { return };
        let mut family = |name: &str, help: &str, kind: &str, value: Option<f64>| {
            if let Some(value) = value {
                text::header(out, name, help, kind);
                text::sample(out, name, "", "", "", text::float(value));
            }
        };
        family(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
            "counter",
            Some(reading.cpu_seconds),
        );
        family(
            "process_max_fds",
            "Maximum number of open file descriptors.",
            "gauge",
            reading.max_files.map(|n| n as f64),
        );
        family(
            "process_network_receive_bytes_total",
            "Number of bytes received by the process over the network.",
            "counter",
            reading.network.as_ref().map(|network| network.received_bytes),
        );
        family(
            "process_network_transmit_bytes_total",
            "Number of bytes sent by the process over the network.",
            "counter",
            reading.network.as_ref().map(|network| network.sent_bytes),
        );
        family(
            "process_open_fds",
            "Number of open file descriptors.",
            "gauge",
            reading.open_files.map(|n| n as f64),
        );
        family(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            "gauge",
            Some(reading.resident_bytes as f64),
        );
        family(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            "gauge",
            reading.start_seconds,
        );
        family(
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            "gauge",
            Some(reading.virtual_bytes as f64),
        );
        family(
            "process_virtual_memory_max_bytes",
            "Maximum amount of virtual memory available in bytes.",
            "gauge",
            Some(reading.max_virtual_bytes as f64),
        );
    }
}

impl Reading {
    fn take() -> io::Result<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let stat = Stat::parse(&stat).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let page = rustix::param::page_size() as u64;
        let since_boot = Duration::from_secs_f64(stat.start_ticks as f64 / ticks);
        Ok(Self {
            cpu_seconds: (stat.user_ticks + stat.system_ticks) as f64 / ticks,
            // The directory being read is itself an open descriptor.
            open_files: std::fs::read_dir("/proc/self/fd")
                .ok()
                .map(|files| files.count().saturating_sub(1)),
            max_files: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            resident_bytes: stat.resident_pages * page,
            virtual_bytes: stat.virtual_bytes,
            max_virtual_bytes: rustix::process::getrlimit(rustix::process::Resource::As)
                .current
                .unwrap_or(u64::MAX),
            network: std::fs::read_to_string("/proc/self/net/netstat")
                .ok()
                .and_then(|text| Network::parse(&text)),
            start_seconds: boot_time().map(|boot| (boot + since_boot).as_secs_f64()),
        })
    }
}

/// The fields of `/proc/self/stat` that we use; see proc_pid_stat(5).
#[derive(Debug, PartialEq)]
struct Stat {
    user_ticks: u64,
    system_ticks: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses and may hold anything; field 3 follows the last one.
        let (_, fields) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse().ok();
        Some(Self {
            user_ticks: number(14)?,
            system_ticks: number(15)?,
            start_ticks: number(22)?,
            virtual_bytes: number(23)?,
            resident_pages: number(24)?,
        })
    }
}

impl Network {
    /// Reads the pairs of lines of `/proc/self/net/netstat`: names, then numbers.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("IpExt: "));
        let (names, numbers) = (lines.next()?.split_ascii_whitespace(), lines.next()?);
        let mut fields = names.zip(numbers.split_ascii_whitespace());
        let mut found = |wanted: &str| fields.find(|(name, _)| *name == wanted)?.1.parse().ok();
        Some(Self {
            received_bytes: found("InOctets")?,
            sent_bytes: found("OutOctets")?,
        })
    }
}

/// When the system was started, since the epoch.
fn boot_time() -> Option<Duration> {
    let uptime = std::fs::read_to_string(Path::new("/proc/stat")).ok()?;
    let seconds = uptime
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()?;
    let boot = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    boot.duration_since(SystemTime::UNIX_EPOCH).ok()
}
