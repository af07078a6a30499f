//! Rows of figures, the table that people read, and the JSON that others can check.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::app::buckets;
use crate::load::histogram;

/// One measurement of one contender in one round.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) scenario: &'static str,
    pub(crate) case: String,
    pub(crate) contender: String,
    pub(crate) round: usize,
    /// By name and unit, in the order in which they are printed.
    pub(crate) figures: Vec<(Figure, f64)>,
    pub(crate) errors: BTreeMap<String, u64>,
    /// CPU seconds of the measured time, by process.
    pub(crate) cpu_seconds: BTreeMap<String, f64>,
    /// Raw latencies in nanoseconds: highest value of a bucket, and how often it occurred.
    pub(crate) histograms: BTreeMap<&'static str, Vec<(u64, u64)>>,
}

/// The name of a figure with its unit, and how many digits of it mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "&'static str")]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) digits: usize,
}

impl From<Figure> for &'static str {
    fn from(figure: Figure) -> Self {
        figure.name
    }
}

const fn figure(name: &'static str, digits: usize) -> Figure {
    Figure { name, digits }
}

pub(crate) const RATE: Figure = figure("answers /s", 0);
pub(crate) const EVENTS: Figure = figure("events /s", 0);
pub(crate) const P50: Figure = figure("p50 ms", 3);
pub(crate) const P90: Figure = figure("p90 ms", 3);
pub(crate) const P99: Figure = figure("p99 ms", 3);
pub(crate) const P999: Figure = figure("p99.9 ms", 3);
pub(crate) const ADDED_P50: Figure = figure("added p50 ms", 3);
pub(crate) const ADDED_P99: Figure = figure("added p99 ms", 3);
pub(crate) const E2E_P50: Figure = figure("end to end p50 ms", 3);
pub(crate) const E2E_P90: Figure = figure("end to end p90 ms", 3);
pub(crate) const E2E_P99: Figure = figure("end to end p99 ms", 3);
pub(crate) const E2E_P999: Figure = figure("end to end p99.9 ms", 3);
pub(crate) const LAG: Figure = figure("deliveries behind at the end s", 3);
pub(crate) const LOST: Figure = figure("lost", 0);
pub(crate) const DUPLICATES: Figure = figure("duplicates", 0);
pub(crate) const CPU: Figure = figure("CPU s per 10,000", 3);
pub(crate) const CPU_SIDECARS: Figure = figure("  of it sidecars", 3);
pub(crate) const OF_RAW: Figure = figure("rate, of the raw client's", 2);
pub(crate) const OF_RAW_P99: Figure = figure("end to end p99, of the raw's", 2);
pub(crate) const OF_REFERENCE: Figure = figure("rate, of the reference's", 2);
pub(crate) const OF_REFERENCE_CPU: Figure = figure("CPU of sidecar, of its", 2);
pub(crate) const RESIDENT: Figure = figure("largest sidecar, resident MiB", 1);
pub(crate) const GROWTH: Figure = figure("growth of a sidecar MiB", 1);
pub(crate) const STREAMED: Figure = figure("MiB /s in and out", 0);
pub(crate) const PER_CORE: Figure = figure("MiB per CPU second", 0);
pub(crate) const OFFERED: Figure = figure("offered /s", 0);
pub(crate) const GOODPUT: Figure = figure("of the peak %", 1);
pub(crate) const REFUSED: Figure = figure("refused", 0);
pub(crate) const ERRORS: Figure = figure("errors", 0);
pub(crate) const FOREIGN: Figure = figure("other work, cores", 2);
pub(crate) const READY: Figure = figure("start to ready ms", 1);
pub(crate) const IDLE: Figure = figure("resident idle MiB", 1);
pub(crate) const SIZE: Figure = figure("program MiB", 1);

/// Median, smallest and largest of the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// `None` for no values.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, least, most })
    }
}

/// Four points of a latency histogram under the given names.
pub(crate) fn quantiles(latency: &Histogram<u64>, names: [Figure; 4]) -> impl Iterator<Item = (Figure, f64)> {
    names
        .into_iter()
        .zip([0.5, 0.9, 0.99, 0.999].map(|q| millis(latency, q)))
}

/// A quantile in milliseconds; 0 when nothing was recorded.
pub(crate) fn millis(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1e6
}

/// All that was measured.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) date: String,
    pub(crate) machine: Machine,
    pub(crate) settings: BTreeMap<&'static str, String>,
    pub(crate) contenders: Vec<Program>,
    /// What was not measured, and why.
    pub(crate) left_out: Vec<String>,
    /// Why the figures must not be published; empty when they may.
    pub(crate) unpublishable: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

#[derive(Serialize)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) cores: usize,
    pub(crate) load_average_before: f64,
}

#[derive(Serialize)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) bytes: u64,
}

impl Report {
    /// The table: a block for each case, a line for each figure, a column for each contender.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let mut cases: Vec<(&str, &str)> = Vec::new();
        for row in &self.rows {
            if !cases.contains(&(row.scenario, &row.case)) {
                cases.push((row.scenario, &row.case));
            }
        }
        for (scenario, case) in cases {
            let rows: Vec<&Row> = self
                .rows
                .iter()
                .filter(|row| row.scenario == scenario && row.case == case)
                .collect();
            block(&mut text, scenario, case, &rows);
        }
        text
    }

    /// Writes `<date>.json` into `folder`.
    pub(crate) fn write(&self, folder: &Path) -> Result<PathBuf> {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let path = folder.join(format!("{}.json", self.date));
        std::fs::write(&path, serde_json::to_vec(self)?)
            .with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}

impl Row {
    /// Keeps the raw latencies, to two digits: a tenth of the size, and finer than any difference worth a claim.
    pub(crate) fn keep(&mut self, name: &'static str, latency: &Histogram<u64>) {
        let mut coarse = histogram(2);
        for (value, count) in buckets(latency) {
            coarse.saturating_record_n(value, count);
        }
        self.histograms.insert(name, buckets(&coarse));
    }
}

fn block(text: &mut String, scenario: &str, case: &str, rows: &[&Row]) {
    let of = |contender: &str, figure: Figure| {
        let of = rows.iter().filter(|row| row.contender == contender);
        Spread::of(
            of.flat_map(|row| &row.figures)
                .filter(|(f, _)| *f == figure)
                .map(|(_, value)| *value)
                .collect(),
        )
    };
    let mut present: Vec<&str> = Vec::new();
    for row in rows {
        if !present.contains(&row.contender.as_str()) {
            present.push(&row.contender);
        }
    }
    let mut figures: Vec<Figure> = Vec::new();
    for (figure, _) in rows.iter().flat_map(|row| &row.figures) {
        if !figures.contains(figure) {
            figures.push(*figure);
        }
    }
    let _ = write!(text, "\n{scenario}  {case}\n{:<34}", "");
    for name in &present {
        let _ = write!(text, "{name:<30}");
    }
    text.push('\n');
    for figure in figures {
        let _ = write!(text, "  {:<32}", figure.name);
        for name in &present {
            let cell = of(name, figure).map_or_else(String::new, |spread| cell(spread, figure.digits));
            let _ = write!(text, "{cell:<30}");
        }
        text.push('\n');
    }
    for row in rows {
        for (cause, count) in &row.errors {
            let _ = writeln!(
                text,
                "  ! {} round {}: {count} x {cause}",
                row.contender, row.round
            );
        }
    }
}

fn cell(spread: Spread, digits: usize) -> String {
    if spread.least == spread.most {
        return format!("{:.digits$}", spread.median);
    }
    format!(
        "{:.digits$} ({:.digits$}–{:.digits$})",
        spread.median, spread.least, spread.most
    )
}

#[cfg(test)]
mod tests {
    use super::{Spread, cell};

    #[test]
    fn spreads() {
        for (values, expect) in [
            (vec![3.0], (3.0, 3.0, 3.0)),
            (vec![3.0, 1.0], (2.0, 1.0, 3.0)),
            (vec![9.0, 1.0, 2.0], (2.0, 1.0, 9.0)),
        ] {
            let spread = Spread::of(values).unwrap();
            assert_eq!((spread.median, spread.least, spread.most), expect);
        }
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn a_cell_names_its_range_only_if_there_is_one() {
        assert_eq!(
            cell(
                Spread {
                    median: 1.0,
                    least: 1.0,
                    most: 1.0
                },
                1
            ),
            "1.0"
        );
        assert_eq!(
            cell(
                Spread {
                    median: 1.0,
                    least: 0.5,
                    most: 2.0
                },
                2
            ),
            "1.00 (0.50–2.00)"
        );
    }
}
