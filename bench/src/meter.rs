//! What the process table says: CPU time and resident memory of a contender's processes while a load runs, and how busy the
//! machine was with anything else.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::clock::now;
use crate::process::Process;

/// Counts between [`Meter::begin`] and [`Meter::end`].
pub(crate) struct Meter<'a> {
    /// Charged to the contender: sidecars, brokers, hub.
    contender: Vec<&'a Process>,
    /// Ours, and neither the contender's nor anybody else's: the app.
    ours: Vec<&'a Process>,
    start: Option<Sample>,
    usage: Usage,
}

/// What was used within the measured time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// CPU seconds by process of the contender.
    pub(crate) cpu: BTreeMap<String, f64>,
    /// Largest resident size seen by process of the contender, in KiB.
    pub(crate) resident: BTreeMap<String, u64>,
    /// Cores kept busy by processes that belong neither to the contender nor to us.
    pub(crate) foreign: f64,
}

struct Sample {
    at: u64,
    /// CPU seconds, in the order of `contender`.
    contender: Vec<f64>,
    ours: f64,
    machine: f64,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(contender: Vec<&'a Process>, ours: Vec<&'a Process>) -> Self {
        Self {
            contender,
            ours,
            start: None,
            usage: Usage::default(),
        }
    }

    pub(crate) fn begin(&mut self) -> Result<()> {
        self.start = Some(self.now()?);
        self.sample()
    }

    /// Looks at memory; called now and then during the load.
    pub(crate) fn sample(&mut self) -> Result<()> {
        for process in &self.contender {
            let seen = self.usage.resident.entry(process.name().to_owned()).or_default();
            *seen = (*seen).max(resident(process.pid())?);
        }
        Ok(())
    }

    pub(crate) fn end(&mut self) -> Result<()> {
        let start = self.start.take().context("the meter was not started")?;
        let end = self.now()?;
        let mut contender = 0.0;
        for (process, (before, after)) in self
            .contender
            .iter()
            .zip(start.contender.iter().zip(&end.contender))
        {
            *self.usage.cpu.entry(process.name().to_owned()).or_default() += after - before;
            contender += after - before;
        }
        let seconds = Duration::from_nanos(end.at - start.at).as_secs_f64();
        let others = (end.machine - start.machine) - contender - (end.ours - start.ours);
        self.usage.foreign = (others / seconds).max(0.0);
        Ok(())
    }

    pub(crate) fn usage(&self) -> Usage {
        self.usage.clone()
    }

    fn now(&self) -> Result<Sample> {
        let contender = self
            .contender
            .iter()
            .map(|process| cpu(process.pid()))
            .collect::<Result<_>>()?;
        let mut ours = cpu(std::process::id())?;
        for process in &self.ours {
            ours += cpu(process.pid())?;
        }
        Ok(Sample {
            at: now(),
            contender,
            ours,
            machine: machine()?,
        })
    }
}

/// User and system time of a process and its threads, in seconds; the kernel counts in hundredths.
pub(crate) fn cpu(pid: u32) -> Result<f64> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold spaces; the fields after it do not. utime and stime are the 14th and 15th of all.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: Vec<u64> = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse().ok())
        .collect();
    anyhow::ensure!(ticks.len() == 2, "/proc/{pid}/stat holds no CPU times");
    Ok(seconds(ticks.iter().sum()))
}

/// Resident set size in KiB.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let status = read(&format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok())
        .with_context(|| format!("/proc/{pid}/status holds no VmRSS: the process has ended"))
}

/// CPU time the whole machine spent in processes, in seconds; interrupts and waiting are nobody's.
fn machine() -> Result<f64> {
    let stat = read("/proc/stat")?;
    let ticks: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    anyhow::ensure!(ticks.len() > 3, "/proc/stat holds no CPU times");
    Ok(seconds(ticks.iter().take(3).sum()))
}

/// The load average of the last minute.
pub(crate) fn load_average() -> Result<f64> {
    let text = read("/proc/loadavg")?;
    text.split_whitespace()
        .next()
        .and_then(|first| first.parse().ok())
        .context("/proc/loadavg holds no number")
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {path}"))
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}
