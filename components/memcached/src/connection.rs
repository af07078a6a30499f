//! One connection to one host, which many callers share: requests are written as they come, answers belong to them in
//! order.
//!
//! It is made when there is something to ask, and made anew after it was lost. Whoever waited for an answer then learns that it
//! is not known what became of the request.

use crate::protocol::{self, Answer, Garbage, Request};
use bytes::{Buf as _, BytesMut};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Requests that wait to be written.
const QUEUE: usize = 256;
/// Requests that wait for their answers.
const IN_FLIGHT: usize = 1024;
/// What is written in one go; larger values come on top.
const BATCH: usize = 64 * 1024;

/// Sends requests to the connection.
#[derive(Clone)]
pub(crate) struct Handle {
    requests: mpsc::Sender<Asked>,
    timeout: Duration,
}

struct Asked {
    request: Request,
    until: Instant,
    answer: oneshot::Sender<Result<Answer, Lost>>,
}

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Lost {
    #[error("no connection: {0}")]
    NoConnection(Arc<io::Error>),
    #[error("connection lost: {0}")]
    Broken(Arc<io::Error>),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error(transparent)]
    Garbage(#[from] Garbage),
    #[error("component is closed")]
    Closed,
}

/// Somebody who waits for the answer to what was written.
struct Waiting {
    until: Instant,
    answer: oneshot::Sender<Result<Answer, Lost>>,
}

/// The handle, and the loop that somebody must run. It ends with the last handle.
pub(crate) fn new(host: String, timeout: Duration) -> (Handle, impl Future<Output = ()> + Send + 'static) {
    let (requests, inbox) = mpsc::channel(QUEUE);
    (Handle { requests, timeout }, run(host, timeout, inbox))
}

impl Handle {
    /// # Errors
    /// When there is no answer in time, or none that can be understood.
    pub(crate) async fn ask(&self, request: Request) -> Result<Answer, Lost> {
        let (answer, answered) = oneshot::channel();
        let until = Instant::now() + self.timeout;
        let asked = Asked {
            request,
            until,
            answer,
        };
        let asking = async {
            self.requests.send(asked).await.map_err(|_| Lost::Closed)?;
            answered.await.map_err(|_| Lost::Closed)?
        };
        tokio::time::timeout_at(until, asking)
            .await
            .unwrap_or(Err(Lost::Timeout(self.timeout)))
    }
}

async fn run(host: String, timeout: Duration, mut inbox: mpsc::Receiver<Asked>) {
    while let Some(first) = inbox.recv().await {
        let lost = match tokio::time::timeout(timeout, connect(&host)).await {
            Ok(Ok(stream)) => serve(stream, first, timeout, &mut inbox).await,
            Ok(Err(error)) => {
                let lost = Lost::NoConnection(Arc::new(error));
                fail(first.answer, &lost);
                lost
            }
            Err(_) => {
                let lost = Lost::Timeout(timeout);
                fail(first.answer, &lost);
                lost
            }
        };
        // Those who queue behind have waited for this connection, too.
        if let Lost::NoConnection(_) | Lost::Timeout(_) = lost {
            while let Ok(asked) = inbox.try_recv() {
                fail(asked.answer, &lost);
            }
        }
    }
}

async fn connect(host: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(host).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Until the connection is lost, or nobody has a handle any more.
async fn serve(
    mut stream: TcpStream,
    first: Asked,
    timeout: Duration,
    inbox: &mut mpsc::Receiver<Asked>,
) -> Lost {
    let (mut reader, mut writer) = stream.split();
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    let mut waiting = VecDeque::new();
    let accept = |asked: Asked, output: &mut BytesMut, waiting: &mut VecDeque<Waiting>| {
        // Whoever has given up need not be asked for.
        if asked.answer.is_closed() {
            return;
        }
        asked.request.write(output);
        waiting.push_back(Waiting {
            until: asked.until,
            answer: asked.answer,
        });
    };
    accept(first, &mut output, &mut waiting);
    let lost = loop {
        let room = waiting.len() < IN_FLIGHT && output.len() < BATCH;
        let late = waiting.front().map(|waiting| waiting.until);
        tokio::select! {
            asked = inbox.recv(), if room => match asked {
                Some(asked) => accept(asked, &mut output, &mut waiting),
                None => break Lost::Closed,
            },
            wrote = writer.write(&output), if !output.is_empty() => match wrote {
                Ok(length) => output.advance(length),
                Err(error) => break Lost::Broken(Arc::new(error)),
            },
            read = reader.read_buf(&mut input) => {
                let taken = match read {
                    Ok(0) => Err(Lost::Broken(Arc::new(io::ErrorKind::UnexpectedEof.into()))),
                    Ok(_) => deliver(&mut input, &mut waiting).map_err(Lost::Garbage),
                    Err(error) => Err(Lost::Broken(Arc::new(error))),
                };
                if let Err(lost) = taken {
                    break lost;
                }
            },
            // An answer that is late makes all behind it late.
            () = until(late) => break Lost::Timeout(timeout),
        }
    };
    for Waiting { answer, .. } in waiting {
        fail(answer, &lost);
    }
    lost
}

fn deliver(input: &mut BytesMut, waiting: &mut VecDeque<Waiting>) -> Result<(), Garbage> {
    while let Some(answer) = protocol::read(input)? {
        let Some(first) = waiting.pop_front() else {
            return Err(Garbage("an answer that nobody asked for".to_owned()));
        };
        // Somebody who has given up.
        let _unheard = first.answer.send(Ok(answer));
    }
    Ok(())
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn fail(answer: oneshot::Sender<Result<Answer, Lost>>, lost: &Lost) {
    let _unheard = answer.send(Err(lost.clone()));
}
