//! A connection to one server that everybody shares, made when it is first used and made anew when it is lost.
//!
//! INVARIANT: one attempt at a time. Whoever comes while a connection is being made waits for it and shares its outcome;
//! whoever comes after an outcome that was bad begins the next attempt.

use super::dial::{Address, Connection, Dialer};
use super::sentinel::Sentinels;
use arc_swap::ArcSwap;
use futures::future::{BoxFuture, FutureExt, Shared};
use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisError, RedisResult, Value};
use std::sync::Arc;

/// Which server.
#[derive(Clone)]
pub(super) enum Place {
    Fixed(Address),
    /// The master of the moment.
    Master(Arc<Sentinels>),
}

pub(super) struct Link {
    pub place: Place,
    dialer: Dialer,
    current: ArcSwap<Attempt>,
}

type Attempt = Shared<BoxFuture<'static, RedisResult<Arc<Connection>>>>;

/// Why there is no answer.
pub(super) struct Failure {
    pub error: RedisError,
    /// Whether the server may have done what it was asked.
    pub sent: bool,
}

impl Link {
    pub(super) fn new(place: Place, dialer: Dialer) -> Self {
        let current = ArcSwap::from_pointee(attempt(&place, &dialer));
        Self {
            place,
            dialer,
            current,
        }
    }

    pub(super) async fn request(&self, cmd: &Cmd) -> Result<Value, Failure> {
        let attempt = self.current.load_full();
        let answer = match attempt.peek() {
            Some(Ok(connection)) => connection.request(cmd).await,
            _ => {
                let connection = self.wait(&attempt).await?;
                connection.request(cmd).await
            }
        };
        self.judge(&attempt, answer.and_then(Value::extract_error))
    }

    /// The same, of a cluster's node to which the key is just moving.
    pub(super) async fn ask(&self, cmd: &Cmd) -> Result<Value, Failure> {
        let attempt = self.current.load_full();
        let connection = self.wait(&attempt).await?;
        let mut both = Pipeline::with_capacity(2);
        both.cmd("ASKING").add_command(cmd.clone());
        let answers = connection.requests.clone().req_packed_commands(&both, 0, 2).await;
        let answer = answers.and_then(|mut answers| answers.pop().unwrap_or(Value::Nil).extract_error());
        self.judge(&attempt, answer)
    }

    /// A connection of the caller's own to the same server, whose answers may take any time.
    pub(super) async fn dedicated(&self) -> RedisResult<Connection> {
        let dialer = Dialer {
            answer_timeout: None,
            ..self.dialer.clone()
        };
        dialer.dial(&self.place.resolve().await?).await
    }

    /// A connection on which the server pushes messages.
    pub(super) async fn listen(&self, heard: impl redis::aio::AsyncPushSender) -> RedisResult<Connection> {
        self.dialer.listen(&self.place.resolve().await?, heard).await
    }

    async fn wait(&self, attempt: &Arc<Attempt>) -> Result<Arc<Connection>, Failure> {
        Attempt::clone(attempt).await.map_err(|error| {
            self.renew(attempt);
            Failure { error, sent: false }
        })
    }

    fn judge(&self, attempt: &Arc<Attempt>, answer: RedisResult<Value>) -> Result<Value, Failure> {
        answer.map_err(|error| {
            let refused = is_refused(&error);
            // A server that is silent may be gone for good: those who come now ask over a new connection.
            if error.is_unrecoverable_error() || error.is_timeout() || error.code() == Some("READONLY") {
                self.renew(attempt);
            }
            Failure {
                error,
                sent: !refused,
            }
        })
    }

    /// Unless somebody has done so already.
    fn renew(&self, attempt: &Arc<Attempt>) {
        let next = Arc::new(self::attempt(&self.place, &self.dialer));
        self.current.compare_and_swap(attempt, next);
    }
}

impl Place {
    pub(super) async fn resolve(&self) -> RedisResult<Address> {
        match self {
            Self::Fixed(address) => Ok(address.clone()),
            Self::Master(sentinels) => sentinels.master().await,
        }
    }
}

/// Nothing happens until somebody waits for it.
fn attempt(place: &Place, dialer: &Dialer) -> Attempt {
    let (place, dialer) = (place.clone(), dialer.clone());
    let making = async move {
        let address = place.resolve().await?;
        let connection = dialer.dial(&address).await?;
        if let Place::Master(_) = place {
            Sentinels::confirm(&connection, &address).await?;
        }
        Ok(Arc::new(connection))
    };
    making.boxed().shared()
}

/// The server is there and has done nothing.
fn is_refused(error: &RedisError) -> bool {
    matches!(
        error.code(),
        Some("LOADING" | "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "MOVED" | "ASK")
    )
}
