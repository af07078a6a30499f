//! From end to end on a Redis stream without anything between: one connection adds entries at a fixed rate, another reads
//! them as a member of a group.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Buf as _;
use bytes::BytesMut;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::clock::{Ticker, nanos, now};
use crate::load::{DIGITS, histogram};
use crate::report::{E2E_P50, E2E_P90, E2E_P99, E2E_P999, Figure, RATE, quantiles};
use crate::request::{AT, Source};

/// A second after which the last entry should long have come.
const WAIT: &str = "1000";

/// Adds `rate` entries a second for the warm-up and the measured time; how long each was under way from the instant it was due.
pub(super) async fn measure(
    address: &str,
    rate: u32,
    (warmup, measured): (Duration, Duration),
) -> Result<Vec<(Figure, f64)>> {
    let (mut writer, mut reader) = (Connection::to(address).await?, Connection::to(address).await?);
    let stream = format!("raw-{}", now());
    let stream = stream.as_bytes();
    writer
        .send(&[b"XGROUP", b"CREATE", stream, b"group", b"$", b"MKSTREAM"])
        .await?;
    writer.answer().await?;

    let step = nanos(Duration::from_secs(1)) / u64::from(rate.max(1));
    let start = now() + nanos(Duration::from_millis(100));
    let since = start + nanos(warmup);
    let count = (nanos(warmup) + nanos(measured)) / step;
    let source = Source::publish("raw", "raw");

    let adding = async {
        let ticker = Ticker::starting(start, Duration::from_nanos(step))?;
        let (mut added, mut answered) = (0, 0);
        while answered < count {
            tokio::select! {
                tick = ticker.tick(), if added < count => {
                    tick?;
                    let due = (now().saturating_sub(start) / step + 1).min(count);
                    for number in added..due {
                        let body = source.request(number, start + number * step).into_body().collect().await?.to_bytes();
                        writer.send(&[b"XADD", stream, b"*", b"data", &body]).await?;
                    }
                    added = due;
                }
                answer = writer.answer() => { answer?; answered += 1; }
            }
        }
        anyhow::Ok(())
    };
    let reading = async {
        let mut latency = histogram(DIGITS);
        let mut seen = 0;
        while seen < count {
            let read: [&[u8]; 12] = [
                b"XREADGROUP",
                b"GROUP",
                b"group",
                b"one",
                b"COUNT",
                b"100",
                b"BLOCK",
                WAIT.as_bytes(),
                b"NOACK",
                b"STREAMS",
                stream,
                b">",
            ];
            reader.send(&read).await?;
            let answer = reader.answer().await?;
            let at = now();
            let stamps: Vec<u64> = stamps(&answer)?;
            ensure!(
                !stamps.is_empty(),
                "{} entries did not come within {WAIT} ms",
                count - seen
            );
            for due in stamps {
                seen += 1;
                if due >= since {
                    latency.saturating_record(at.saturating_sub(due).max(1));
                }
            }
        }
        anyhow::Ok(latency)
    };
    let ((), latency) = tokio::try_join!(adding, reading)?;
    let mut figures = vec![(RATE, latency.len() as f64 / measured.as_secs_f64())];
    figures.extend(quantiles(&latency, [E2E_P50, E2E_P90, E2E_P99, E2E_P999]));
    Ok(figures)
}

/// When each of the entries in an answer was due.
fn stamps(answer: &[u8]) -> Result<Vec<u64>> {
    let text = std::str::from_utf8(answer).context("an answer in UTF-8")?;
    text.split(AT)
        .skip(1)
        .map(|rest| {
            let digits = rest.split('"').next().unwrap_or_default();
            digits.parse().with_context(|| format!("{digits:?} is no stamp"))
        })
        .collect()
}

struct Connection {
    stream: TcpStream,
    /// What has come.
    read: BytesMut,
}

impl Connection {
    async fn to(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("connect to redis")?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            read: BytesMut::new(),
        })
    }

    async fn send(&mut self, words: &[&[u8]]) -> Result<()> {
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            command.extend(format!("${}\r\n", word.len()).as_bytes());
            command.extend_from_slice(word);
            command.extend(b"\r\n");
        }
        self.stream.write_all(&command).await.context("write to redis")
    }

    /// The next whole answer. Nothing is lost when it is dropped halfway.
    async fn answer(&mut self) -> Result<BytesMut> {
        loop {
            if let Some(length) = length(&self.read)? {
                let answer = self.read.split_to(length);
                ensure!(
                    answer.first() != Some(&b'-'),
                    "redis answers {}",
                    String::from_utf8_lossy(answer.chunk())
                );
                return Ok(answer);
            }
            let more = self
                .stream
                .read_buf(&mut self.read)
                .await
                .context("read from redis")?;
            ensure!(more > 0, "redis has closed the connection");
        }
    }
}

/// How long the value at the beginning is; `None` when it is not all there.
fn length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else {
        return Ok(None);
    };
    let line = std::str::from_utf8(&bytes[..end]).context("a line in UTF-8")?;
    let (kind, rest) = line.split_at_checked(1).context("an empty line")?;
    let mut length = end + 2;
    let count = || {
        rest.parse::<i64>()
            .with_context(|| format!("{line:?} holds no number"))
    };
    match kind {
        "+" | "-" | ":" => {}
        "$" => {
            if let Ok(count) = usize::try_from(count()?) {
                length += count + 2;
            }
        }
        "*" => {
            for _ in 0..count()? {
                match self::length(&bytes[length..])? {
                    Some(more) => length += more,
                    None => return Ok(None),
                }
            }
        }
        other => anyhow::bail!("redis answers with an unknown type {other:?}"),
    }
    Ok((length <= bytes.len()).then_some(length))
}

#[cfg(test)]
mod tests {
    use super::length;

    #[test]
    fn lengths() {
        for (bytes, expect) in [
            ("+OK\r\n", Some(5)),
            ("+OK\r", None),
            ("$3\r\nabc\r\n", Some(9)),
            ("$3\r\nabc", None),
            ("$-1\r\n", Some(5)),
            ("*-1\r\n+", Some(5)),
            ("*2\r\n:1\r\n$1\r\na\r\nmore", Some(15)),
            ("*2\r\n:1\r\n", None),
        ] {
            assert_eq!(length(bytes.as_bytes()).unwrap(), expect, "{bytes:?}");
        }
        for bytes in ["?1\r\n", "$x\r\n", "\r\n"] {
            length(bytes.as_bytes()).unwrap_err();
        }
    }
}
