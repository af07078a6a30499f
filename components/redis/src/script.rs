//! Scripts that the server runs as one step. It keeps those it has seen; others are sent to it whole, once.

use crate::client::{Client, Repeat};
use redis::{Cmd, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind};

pub(crate) struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    pub(crate) fn new(text: &'static str) -> Self {
        let hash = redis::Script::new(text).get_hash().to_owned();
        Self { text, hash }
    }

    /// Runs it with what `words` adds: the number of keys, the keys, the arguments; about `size` bytes.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        client: &Client,
        repeat: Repeat,
        size: usize,
        words: impl Fn(&mut Cmd),
    ) -> RedisResult<T> {
        let cmd = |verb: &str, script: &str| {
            let mut cmd = Cmd::with_capacity(8, script.len() + size);
            cmd.arg(verb).arg(script);
            words(&mut cmd);
            cmd
        };
        match client.query(&cmd("EVALSHA", &self.hash), repeat).await {
            // A server that was restarted, or has never seen it. Nothing has been done yet.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                client.query(&cmd("EVAL", self.text), repeat).await
            }
            result => result,
        }
    }

    /// The same for one key.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run_on<T: FromRedisValue>(
        &self,
        client: &Client,
        repeat: Repeat,
        key: &str,
        words: &[&str],
    ) -> RedisResult<T> {
        let size = key.len() + words.iter().map(|word| word.len()).sum::<usize>() + 1;
        self.run(client, repeat, size, |cmd| {
            cmd.arg(1).arg(key).arg(words);
        })
        .await
    }
}
