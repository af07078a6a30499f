//! Sentinels watch a master and its replicas, and say which server is the master now.
//!
//! Nothing they say is kept: they are asked whenever a connection to the master is made, all at once, and the first answer
//! counts. A server that no longer, or not yet, is a master is not talked to.

use super::dial::{Address, Connection, Dialer};
use futures::future::{FutureExt, select_ok};
use redis::{ErrorKind, RedisError, RedisResult, Value};

pub(super) struct Sentinels {
    pub addresses: Vec<Address>,
    /// What the Sentinels call it.
    pub master: String,
    pub dialer: Dialer,
}

impl Sentinels {
    /// # Errors
    /// One of the Sentinels', if none of them knows.
    pub(super) async fn master(&self) -> RedisResult<Address> {
        let asked = self.addresses.iter().map(|address| self.ask(address).boxed());
        select_ok(asked).await.map(|(address, _)| address)
    }

    async fn ask(&self, sentinel: &Address) -> RedisResult<Address> {
        let connection = self.dialer.dial(sentinel).await?;
        let mut cmd = redis::cmd("SENTINEL");
        cmd.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
        let known: Option<(String, u16)> = cmd.query_async(&mut connection.requests.clone()).await?;
        known
            .map(|(host, port)| Address::new(&host, port))
            .ok_or_else(|| {
                RedisError::from((
                    ErrorKind::InvalidClientConfig,
                    "the Sentinels know no master of that name (sentinelMasterName)",
                    self.master.clone(),
                ))
            })
    }

    /// # Errors
    /// When the server is no master.
    pub(super) async fn confirm(connection: &Connection, address: &Address) -> RedisResult<()> {
        let role: RedisResult<Value> = redis::cmd("ROLE")
            .query_async(&mut connection.requests.clone())
            .await;
        let is_master = match role {
            Ok(Value::Array(role)) => {
                matches!(role.first(), Some(Value::BulkString(role)) if role == b"master")
            }
            // Users may be kept from asking. Writes to a replica are refused anyway.
            Err(error) if error.code() == Some("NOPERM") => true,
            Err(error) => return Err(error),
            Ok(_) => false,
        };
        if is_master {
            return Ok(());
        }
        Err(RedisError::from(std::io::Error::new(
            std::io::ErrorKind::NotConnected,
            format!("{address} is not a master yet: a failover is under way"),
        )))
    }
}
