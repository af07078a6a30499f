//! What the tools print, read strictly.

use anyhow::{Context, Result, bail, ensure};

use crate::report::{E2E_P50, E2E_P99, Figure, P50, P99, RATE};

type Figures = Vec<(Figure, f64)>;

/// A header, and for each test its name, rate, and milliseconds on average, at least, at the 50th, 95th and 99th
/// percentile, and at most; all in quotes.
pub(super) fn redis_benchmark(text: &str) -> Result<Figures> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let header = lines.next().unwrap_or_default();
    ensure!(
        header
            == r#""test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms""#,
        "redis-benchmark prints other columns: {header}"
    );
    let (Some(line), None) = (lines.next(), lines.next()) else {
        bail!("redis-benchmark prints not one line: {text}");
    };
    // The name holds the command with all its words.
    let mut fields = line.rsplitn(8, ',').map(|field| field.trim_matches('"'));
    let [_most, p99, _p95, p50, _least, _average, rate] =
        std::array::from_fn(|_| fields.next().unwrap_or_default());
    Ok(vec![
        (RATE, number(rate)?),
        (P50, number(p50)?),
        (P99, number(p99)?),
    ])
}

/// The line about what came after the warm-up.
pub(super) fn producer_performance(text: &str) -> Result<Figures> {
    let line = text
        .lines()
        .rfind(|line| line.contains(" steady state records sent, "))
        .with_context(|| format!("ProducerPerformance prints no steady state: {text}"))?;
    let mut figures = vec![(RATE, before(line, " records/sec")?)];
    for (figure, unit) in [(P50, " ms 50th"), (P99, " ms 99th")] {
        figures.push((figure, before(line, unit)?));
    }
    Ok(figures)
}

/// Percentiles in whole milliseconds, rounded down: the middle of that millisecond is taken.
pub(super) fn end_to_end_latency(text: &str) -> Result<Figures> {
    let average = after(text, "Avg latency: ")?;
    Ok(vec![
        (RATE, 1000.0 / average),
        (E2E_P50, after(text, "50th = ")? + 0.5),
        (E2E_P99, after(text, ", 99th = ")? + 0.5),
    ])
}

/// A line for each interval; the first is the warm-up, the second what counts. (Percentiles of shorter intervals cannot be joined: a
/// pause of the server in each of them is in none of their medians.)
pub(super) fn perf_test(text: &str, deliver: bool) -> Result<Figures> {
    let line = text
        .lines()
        .filter(|line| line.starts_with("id: ") && line.contains(", time "))
        .nth(1)
        .with_context(|| format!("PerfTest prints too little: {text}"))?;
    let rate = if deliver { "received: " } else { "confirmed: " };
    let mut figures = vec![(RATE, after(line, rate)?)];
    for (figure, index) in [(P50, 1), (P99, 4)] {
        figures.push((figure, latency(line, "confirm latency: ", index)?));
    }
    if deliver {
        for (figure, index) in [(E2E_P50, 1), (E2E_P99, 4)] {
            figures.push((figure, latency(line, "consumer latency: ", index)?));
        }
    }
    Ok(figures)
}

/// Of minimum, median, 75th, 95th and 99th percentile in microseconds, the one at `index` in milliseconds.
fn latency(line: &str, label: &str, index: usize) -> Result<f64> {
    let rest = rest(line, label)?;
    let (values, unit) = rest
        .split_once(' ')
        .with_context(|| format!("{line:?} has no unit"))?;
    ensure!(
        unit.starts_with("µs"),
        "PerfTest measures in another unit than µs: {line:?}"
    );
    let value = values.split('/').nth(index);
    Ok(number(value.with_context(|| format!("{line:?} has too few values"))?)? / 1000.0)
}

/// No transaction may have failed.
pub(super) fn pgbench(text: &str) -> Result<Figures> {
    ensure!(
        after(text, "number of failed transactions: ")? == 0.0,
        "pgbench has failures: {text}"
    );
    Ok(vec![(RATE, after(text, "tps = ")?)])
}

/// The number that follows `label`.
fn after(text: &str, label: &str) -> Result<f64> {
    let rest = rest(text, label)?;
    number(rest.split([' ', ',', '\n']).next().unwrap_or_default())
}

/// The number that stands before `unit`.
fn before(text: &str, unit: &str) -> Result<f64> {
    let (head, _) = text
        .split_once(unit)
        .with_context(|| format!("{unit:?} is not in {text:?}"))?;
    number(head.rsplit(' ').next().unwrap_or_default())
}

fn rest<'a>(text: &'a str, label: &str) -> Result<&'a str> {
    let (_, rest) = text
        .split_once(label)
        .with_context(|| format!("{label:?} is not in {text:?}"))?;
    Ok(rest)
}

fn number(text: &str) -> Result<f64> {
    let number: f64 = text.parse().with_context(|| format!("{text:?} is no number"))?;
    ensure!(number.is_finite() && number >= 0.0, "{text:?} is no figure");
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::{Figures, end_to_end_latency, perf_test, pgbench, producer_performance, redis_benchmark};

    fn values(figures: Figures) -> Vec<f64> {
        figures.into_iter().map(|(_, value)| value).collect()
    }

    #[test]
    fn redis() {
        let header = r#""test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms""#;
        let line = r#""XADD a, * data x","50000.50","0.2","0.1","0.15","0.3","0.4","1.5""#;
        assert_eq!(
            values(redis_benchmark(&format!("{header}\n{line}\n")).unwrap()),
            [50000.5, 0.15, 0.4]
        );
        for text in [
            "",
            line,
            header,
            &format!("{header}\n{line}\n{line}\n"),
            &format!("{header}\n\"a\",\"b\"\n"),
        ] {
            redis_benchmark(text).unwrap_err();
        }
    }

    #[test]
    fn kafka() {
        let text = "10 records sent, 5.0 records/sec (1.00 MB/sec), 9.90 ms avg latency, 9.00 ms max latency, 9 ms 50th, 9 ms 95th, 9 ms 99th, 9 ms 99.9th.\n\
            2000 steady state records sent, 41322.3 records/sec (40.35 MB/sec), 3.08 ms avg latency, 11.00 ms max latency, 3 ms 50th, 5 ms 95th, 7 ms 99th, 9 ms 99.9th.\n";
        assert_eq!(values(producer_performance(text).unwrap()), [41322.3, 3.0, 7.0]);
        producer_performance("5.0 records/sec").unwrap_err();
        let text = "0\t12.5\nAvg latency: 0.5000 ms\nPercentiles: 50th = 0, 99th = 2, 99.9th = 7\n";
        assert_eq!(values(end_to_end_latency(text).unwrap()), [2000.0, 0.5, 2.5]);
        end_to_end_latency("Avg latency: x ms").unwrap_err();
    }

    #[test]
    fn postgresql() {
        let text = "number of failed transactions: 0 (0.000%)\nlatency average = 0.9 ms\ntps = 16234.567 (without initial connection time)\n";
        assert_eq!(values(pgbench(text).unwrap()), [16234.567]);
        pgbench(&text.replace(": 0 (", ": 2 (")).unwrap_err();
        pgbench("").unwrap_err();
    }

    #[test]
    fn rabbitmq() {
        let line = |received, latency| {
            format!(
                "id: t, time 1.0 s, sent: 9 msg/s, confirmed: 8 msg/s, nacked: 0 msg/s, received: {received} msg/s, min/median/75th/95th/99th \
                 consumer latency: 1/{latency}/3/4/{latency} µs, confirm latency: 1/2000/3/4/5000 µs\n"
            )
        };
        let text = format!(
            "id: t, starting consumer #0\n{}{}{}",
            line(1, 9),
            line(20, 2000),
            line(10, 1000)
        );
        assert_eq!(
            values(perf_test(&text, true).unwrap()),
            [20.0, 2.0, 5.0, 2.0, 2.0]
        );
        assert_eq!(values(perf_test(&text, false).unwrap()), [8.0, 2.0, 5.0]);
        perf_test(&line(1, 9), true).unwrap_err();
        perf_test(&text.replace("µs", "ms"), true).unwrap_err();
    }
}
