//! One connection to one broker: requests of several callers, answered in their order.
//!
//! A connection is one task that reads and writes. When it ends, for whatever reason, everybody who waits for an answer
//! learns why; a connection never comes back, its users make another.
//!
//! INVARIANT: answers come in the order of requests, so the oldest that waits is meant; an answer with another
//! correlation id ends the connection.

use crate::failure::Failure;
use crate::wire::{CORRELATION, Request, Take, frame};
use bytes::{Buf, Bytes, BytesMut};
use outrigger_daemon::tasks::Spawner;
use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

/// Requests that wait to be written. Callers have a few under way each.
const QUEUE: usize = 256;
/// Frames that are written at once.
const AT_ONCE: usize = 32;
/// Of an answer; what says it is longer speaks another protocol.
const LONGEST: usize = 256 << 20;

/// Bytes in both directions: TCP, or TLS over it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

type Reply = oneshot::Sender<Result<Bytes, Failure>>;

/// Clones share the connection; it is closed with the last.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    address: Arc<str>,
    client_id: Arc<str>,
    patience: Duration,
    frames: mpsc::Sender<Frame>,
}

#[derive(Debug)]
struct Frame {
    bytes: BytesMut,
    /// `None` if the broker does not answer.
    reply: Option<Reply>,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub answer: Duration,
    pub write: Duration,
}

impl Connection {
    /// Over a stream on which nothing is under way.
    pub(crate) fn new(
        stream: Box<dyn Stream>,
        address: &str,
        client_id: &str,
        patience: Patience,
        spawner: &Spawner,
    ) -> Self {
        let (frames, queue) = mpsc::channel(QUEUE);
        let address: Arc<str> = address.into();
        let task = Task {
            address: Arc::clone(&address),
            waiting: Mutex::default(),
            write_patience: patience.write,
        };
        spawner.spawn("kafka connection", task.run(stream, queue));
        Self {
            address,
            client_id: client_id.into(),
            patience: patience.answer,
            frames,
        }
    }

    /// Asks, and waits for the answer, for `longer` than usual if the broker is to take its time.
    ///
    /// The request is on its way when this returns; dropping the future only means not to listen.
    pub(crate) fn ask<R: Request>(
        &self,
        request: &R,
        longer: Duration,
    ) -> impl Future<Output = Result<R::Answer, Failure>> + Send + use<R> {
        let (reply, answer) = oneshot::channel();
        let sent = self.send(request, Some(reply));
        let address = Arc::clone(&self.address);
        let within = self.patience + longer;
        // Whoever waited too long for one answer would wait for all: the connection is dropped by its user.
        async move {
            sent?;
            let answer = tokio::time::timeout(within, answer)
                .await
                .map_err(|_| Failure::Slow {
                    address: address.to_string(),
                    within,
                })?
                .map_err(|_| lost(&address, "it was closed"))??;
            R::take(&mut Take(answer)).map_err(|cause| Failure::Strange {
                address: address.to_string(),
                cause: cause.to_string(),
            })
        }
    }

    /// Sends what is not answered.
    pub(crate) fn tell<R: Request>(&self, request: &R) -> Result<(), Failure> {
        self.send(request, None)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.frames.is_closed()
    }

    fn send<R: Request>(&self, request: &R, reply: Option<Reply>) -> Result<(), Failure> {
        let bytes = frame(&self.client_id, request);
        self.frames
            .try_send(Frame { bytes, reply })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => lost(&self.address, "too many requests wait for it"),
                mpsc::error::TrySendError::Closed(_) => lost(&self.address, "it was closed"),
            })
    }
}

struct Task {
    address: Arc<str>,
    waiting: Mutex<VecDeque<(i32, Reply)>>,
    write_patience: Duration,
}

impl Task {
    async fn run(self, stream: Box<dyn Stream>, mut queue: mpsc::Receiver<Frame>) {
        let (reader, writer) = tokio::io::split(stream);
        let failure = {
            let reading = self.read(reader);
            let writing = self.write(writer, &mut queue);
            tokio::select! {
                failure = reading => Some(failure),
                failure = writing => failure,
            }
        };
        queue.close();
        let failure = failure.unwrap_or(Failure::Closed);
        let waiting = std::mem::take(&mut *self.waiting());
        for (_, reply) in waiting {
            // Whoever does not listen any more does not mind.
            let _unheard = reply.send(Err(failure.clone()));
        }
        while let Ok(Frame { reply, .. }) = queue.try_recv() {
            if let Some(reply) = reply {
                let _unheard = reply.send(Err(failure.clone()));
            }
        }
    }

    /// `None` when nobody can send any more and nobody waits.
    async fn write(
        &self,
        mut writer: impl AsyncWrite + Unpin,
        queue: &mut mpsc::Receiver<Frame>,
    ) -> Option<Failure> {
        let mut number: i32 = 0;
        let mut frames = Vec::with_capacity(AT_ONCE);
        while queue.recv_many(&mut frames, AT_ONCE).await > 0 {
            let mut joined: Option<BytesMut> = None;
            for Frame { mut bytes, reply } in frames.drain(..) {
                number = number.wrapping_add(1);
                if let Some(place) = bytes.get_mut(CORRELATION..CORRELATION + 4) {
                    place.copy_from_slice(&number.to_be_bytes());
                }
                if let Some(reply) = reply {
                    self.waiting().push_back((number, reply));
                }
                match &mut joined {
                    None => joined = Some(bytes),
                    Some(joined) => joined.extend_from_slice(&bytes),
                }
            }
            let bytes = joined.unwrap_or_default();
            let written = async {
                writer.write_all(&bytes).await?;
                writer.flush().await
            };
            match tokio::time::timeout(self.write_patience, written).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Some(lost(&self.address, error)),
                Err(_) => return Some(lost(&self.address, "it takes no more requests")),
            }
        }
        // Everybody is gone; nobody can wait.
        None
    }

    async fn read(&self, mut reader: impl AsyncRead + Unpin) -> Failure {
        let mut buffer = BytesMut::with_capacity(16 << 10);
        loop {
            match self.answers(&mut buffer) {
                Err(failure) => return failure,
                Ok(missing) => buffer.reserve(missing.max(4 << 10)),
            }
            match reader.read_buf(&mut buffer).await {
                Ok(0) => return lost(&self.address, "the broker closed it"),
                Ok(_) => {}
                Err(error) => return lost(&self.address, error),
            }
        }
    }

    /// Hands out the whole answers in the buffer, and says how many bytes the next one lacks.
    fn answers(&self, buffer: &mut BytesMut) -> Result<usize, Failure> {
        loop {
            let Some(head) = buffer.first_chunk() else {
                return Ok(0);
            };
            let length = length(*head).ok_or_else(|| strange(&self.address))?;
            if buffer.len() < 4 + length {
                return Ok(4 + length - buffer.len());
            }
            buffer.advance(4);
            let mut answer = buffer.split_to(length).freeze();
            let number = answer.get_i32();
            let (expected, reply) = self.waiting().pop_front().ok_or_else(|| strange(&self.address))?;
            if expected != number {
                let failure = strange(&self.address);
                let _unheard = reply.send(Err(failure.clone()));
                return Err(failure);
            }
            let _unheard = reply.send(Ok(answer));
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<(i32, Reply)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request and its answer, on a stream of which nobody else knows yet.
pub(crate) async fn exchange<R: Request>(
    stream: &mut dyn Stream,
    address: &str,
    client_id: &str,
    request: &R,
) -> Result<R::Answer, Failure> {
    let io = |error| lost(address, error);
    stream.write_all(&frame(client_id, request)).await.map_err(io)?;
    stream.flush().await.map_err(io)?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.map_err(io)?;
    let length = length(head).ok_or_else(|| strange(address))?;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await.map_err(io)?;
    let mut answer = Bytes::from(answer);
    answer.advance(4);
    R::take(&mut Take(answer)).map_err(|_| strange(address))
}

/// Of an answer, which is at least its correlation id.
fn length(head: [u8; 4]) -> Option<usize> {
    usize::try_from(i32::from_be_bytes(head))
        .ok()
        .filter(|length| (4..=LONGEST).contains(length))
}

fn lost(address: &str, cause: impl ToString) -> Failure {
    Failure::Lost {
        address: address.to_owned(),
        cause: cause.to_string(),
    }
}

fn strange(address: &str) -> Failure {
    Failure::Strange {
        address: address.to_owned(),
        cause: "its answer makes no sense".to_owned(),
    }
}
