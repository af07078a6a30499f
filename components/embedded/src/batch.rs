//! Requests of many callers in few calls: what arrives while calls are under way goes out together in the next one.
//!
//! Nobody waits for company. Bounds: [`QUEUE`] requests wait, further callers wait for room; [`CALLS`] calls are
//! under way; a call has at most [`ITEMS`] requests and about [`BYTES`].

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use outrigger_component::error::{Error, Result};
use outrigger_daemon::tasks::{OnExit, Tasks};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

const QUEUE: usize = 1024;
const CALLS: usize = 4;
const ITEMS: usize = 256;
const BYTES: usize = 1 << 20;

/// Sends a call's requests; answers as many results, in their order.
pub(crate) type Send<I, O> =
    Arc<dyn Fn(Vec<I>) -> BoxFuture<'static, Vec<Result<O>>> + std::marker::Send + Sync>;

pub(crate) struct Batcher<I, O> {
    queue: mpsc::Sender<Waiting<I, O>>,
    send: Send<I, O>,
}

struct Waiting<I, O> {
    item: I,
    bytes: usize,
    reply: oneshot::Sender<Result<O>>,
}

impl<I: std::marker::Send + 'static, O: std::marker::Send + 'static> Batcher<I, O> {
    pub(crate) fn start(tasks: &Tasks, name: &'static str, send: Send<I, O>) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tasks.spawn(name, OnExit::Log, run(waiting, send.clone()));
        Self { queue, send }
    }

    /// `bytes` is about the size of the item. Cancelling does not take the request back.
    pub(crate) async fn submit(&self, item: I, bytes: usize) -> Result<O> {
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { item, bytes, reply };
        self.queue.send(waiting).await.map_err(|_| Error::closed())?;
        answer.await.map_err(|_| Error::closed())?
    }
}

impl<I, O> Batcher<I, O> {
    /// Sends these, each with about its size, in their order: calls of their own, one after the other. Requests that are
    /// submitted one by one may overtake each other.
    pub(crate) async fn in_order(&self, items: impl IntoIterator<Item = (I, usize)>) -> Vec<Result<O>> {
        let mut items = items.into_iter().peekable();
        let mut results = Vec::new();
        while items.peek().is_some() {
            let mut call = Vec::new();
            let mut bytes = 0;
            while call.len() < ITEMS
                && bytes < BYTES
                && let Some((item, size)) = items.next()
            {
                bytes += size;
                call.push(item);
            }
            results.extend((self.send)(call).await);
        }
        results
    }
}

async fn run<I, O>(mut queue: mpsc::Receiver<Waiting<I, O>>, send: Send<I, O>) {
    let mut calls = FuturesUnordered::new();
    loop {
        tokio::select! {
            waiting = queue.recv(), if calls.len() < CALLS => {
                let Some(first) = waiting else { break };
                calls.push(call(first, &mut queue, &send));
            }
            Some(()) = calls.next(), if !calls.is_empty() => {}
        }
    }
    while calls.next().await.is_some() {}
}

/// Takes what else is waiting, and sends it.
fn call<I, O>(
    first: Waiting<I, O>,
    queue: &mut mpsc::Receiver<Waiting<I, O>>,
    send: &Send<I, O>,
) -> impl Future<Output = ()> + use<I, O> {
    let mut items = Vec::new();
    let mut replies = Vec::new();
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(waiting) = next {
        bytes += waiting.bytes;
        items.push(waiting.item);
        replies.push(waiting.reply);
        next = if items.len() < ITEMS && bytes < BYTES {
            queue.try_recv().ok()
        } else {
            None
        };
    }
    let sent = send(items);
    async move {
        for (reply, result) in replies.into_iter().zip(sent.await) {
            // Whoever asked may have left.
            reply.send(result).ok();
        }
    }
}
