//! What the process table says: CPU time and resident memory of a contender's processes while a load runs, and how busy the
//! machine was with anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::clock::now;

/// A process that is measured.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// In the results.
    name: String,
    pid: u32,
    /// Its children, and theirs, count as well.
    has_children: bool,
}

impl Member {
    pub(crate) fn single(name: &str, pid: u32) -> Self {
        Self {
            name: name.to_owned(),
            pid,
            has_children: false,
        }
    }

    /// A process with all that descend from it.
    pub(crate) fn family(name: &str, pid: u32) -> Self {
        Self {
            has_children: true,
            ..Self::single(name, pid)
        }
    }

    /// Binds every thread to `cores`. Threads and children that start later inherit it.
    pub(crate) fn pin(&self, cores: &CpuSet) -> Result<()> {
        for pid in self.pids()? {
            let tasks = format!("/proc/{pid}/task");
            let Ok(threads) = fs::read_dir(&tasks) else {
                anyhow::ensure!(pid != self.pid, "{} has ended", self.name);
                continue; // a child may have
            };
            for task in threads {
                let thread = task?
                    .file_name()
                    .to_str()
                    .and_then(|id| id.parse().ok())
                    .and_then(Pid::from_raw);
                let Some(thread) = thread else { continue };
                match sched_setaffinity(Some(thread), cores) {
                    Ok(()) | Err(rustix::io::Errno::SRCH) => {} // a thread may have ended meanwhile
                    Err(error) => return Err(error).with_context(|| format!("pin {}", self.name)),
                }
            }
        }
        Ok(())
    }

    fn pids(&self) -> Result<BTreeSet<u32>> {
        let mut pids = BTreeSet::from([self.pid]);
        if !self.has_children {
            return Ok(pids);
        }
        let mut parents = BTreeMap::new();
        for entry in fs::read_dir("/proc").context("read /proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // Others come and go.
            if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) {
                parents.extend(
                    fields(&stat)
                        .nth(1)
                        .and_then(|parent| parent.parse::<u32>().ok())
                        .map(|parent| (pid, parent)),
                );
            }
        }
        loop {
            let before = pids.len();
            pids.extend(
                parents
                    .iter()
                    .filter(|(_, parent)| pids.contains(parent))
                    .map(|(pid, _)| *pid)
                    .collect::<Vec<_>>(),
            );
            if pids.len() == before {
                return Ok(pids);
            }
        }
    }

    /// CPU seconds of all of them, with those of children that have ended.
    fn cpu(&self) -> Result<f64> {
        if !self.has_children {
            return cpu(self.pid);
        }
        let mut ticks = 0;
        for pid in self.pids()? {
            match fs::read_to_string(format!("/proc/{pid}/stat")) {
                Ok(stat) => {
                    ticks +=
                        times(&stat, 4).with_context(|| format!("/proc/{pid}/stat holds no CPU times"))?
                }
                Err(_) => anyhow::ensure!(pid != self.pid, "{} has ended", self.name),
            }
        }
        Ok(seconds(ticks))
    }
}

/// Counts between [`Meter::begin`] and [`Meter::end`].
pub(crate) struct Meter {
    /// Charged to the contender: sidecars, brokers, hub.
    contender: Vec<Member>,
    /// Ours, and neither the contender's nor anybody else's: the app.
    ours: Vec<Member>,
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

impl Meter {
    pub(crate) fn new(contender: Vec<Member>, ours: Vec<Member>) -> Self {
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
            let seen = self.usage.resident.entry(process.name.clone()).or_default();
            *seen = (*seen).max(resident(process.pid)?);
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
            *self.usage.cpu.entry(process.name.clone()).or_default() += after - before;
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
        let contender = self.contender.iter().map(Member::cpu).collect::<Result<_>>()?;
        let mut ours = cpu(std::process::id())?;
        for process in &self.ours {
            ours += process.cpu()?;
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
fn cpu(pid: u32) -> Result<f64> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    let ticks = times(&stat, 2).with_context(|| format!("/proc/{pid}/stat holds no CPU times"))?;
    Ok(seconds(ticks))
}

/// The first so many of: user and system time, and those of the children that were waited for.
fn times(stat: &str, count: usize) -> Option<u64> {
    let ticks: Vec<u64> = fields(stat)
        .skip(11)
        .take(count)
        .filter_map(|field| field.parse().ok())
        .collect();
    (ticks.len() == count).then(|| ticks.iter().sum())
}

/// What follows the name, which may hold spaces: the third field of all and the others.
fn fields(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
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

#[cfg(test)]
mod tests {
    use super::{fields, times};

    #[test]
    fn a_name_may_look_like_fields() {
        let stat = "7 (a) 1 (b) S 42 7 7 0 -1 4194560 1 2 3 4 100 20 3 1 20 0 1 0 5\n";
        assert_eq!(fields(stat).nth(1), Some("42"));
        assert_eq!(times(stat, 2), Some(120));
        assert_eq!(times(stat, 4), Some(124));
        assert_eq!(times("7 (a) S", 2), None);
    }
}
