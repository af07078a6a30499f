//! Making connections: TCP, TLS, and logging in.

use crate::config::Settings;
use crate::connection::{Connection, Patience, Stream, exchange};
use crate::failure::Failure;
use crate::oauth::{self, Tokens};
use crate::scram::{Exchange, Hash};
use crate::wire::code::Code;
use crate::wire::setup::{SaslAuthenticate, SaslHandshake};
use outrigger_component::metadata::Hidden;
use outrigger_daemon::dial::Dial;
use outrigger_daemon::tasks::Spawner;
use outrigger_daemon::tls;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// Who we say we are.
#[derive(Debug, Clone)]
pub(crate) enum Login {
    /// Nobody, or whom the certificate says.
    None,
    Password {
        mechanism: Mechanism,
        user: String,
        password: Hidden,
    },
    Token(Box<oauth::Settings>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mechanism {
    Plain,
    Sha256,
    Sha512,
}

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }
}

const OAUTHBEARER: &str = "OAUTHBEARER";

/// Makes connections to any broker of a cluster.
pub(crate) struct Dialer {
    client_id: String,
    tls: Option<Arc<tls::Config>>,
    login: Login,
    tokens: Option<Tokens>,
    timeout: Duration,
    keep_alive: Option<Duration>,
    patience: Patience,
    spawner: Spawner,
}

impl Dialer {
    /// Connections to brokers are tasks of `spawner`, those for tokens of `asking`.
    pub(crate) fn new(settings: &Settings, spawner: &Spawner, asking: &Spawner) -> Self {
        let tokens = match &settings.login {
            Login::Token(settings) => Some(Tokens::new((**settings).clone(), asking)),
            _ => None,
        };
        Self {
            client_id: settings.client_id.clone(),
            tls: settings.tls.clone().map(Arc::new),
            login: settings.login.clone(),
            tokens,
            timeout: settings.dial_timeout,
            keep_alive: settings.keep_alive,
            patience: Patience {
                answer: settings.read_timeout,
                write: settings.write_timeout,
            },
            spawner: spawner.clone(),
        }
    }

    /// A connection to `host:port`, logged in.
    pub(crate) async fn dial(&self, address: &str) -> Result<Connection, Failure> {
        let dialed = async {
            let mut stream = self.connect(address).await?;
            self.log_in(&mut *stream, address).await?;
            Ok(stream)
        };
        let stream = tokio::time::timeout(self.timeout, dialed)
            .await
            .map_err(|_| Failure::Dial {
                address: address.to_owned(),
                cause: format!("no connection within {} s", self.timeout.as_secs()),
            })??;
        Ok(Connection::new(
            stream,
            address,
            &self.client_id,
            self.patience,
            &self.spawner,
        ))
    }

    async fn connect(&self, address: &str) -> Result<Box<dyn Stream>, Failure> {
        let failed = |cause: String| Failure::Dial {
            address: address.to_owned(),
            cause,
        };
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| failed(error.to_string()))?;
        if let Some(after) = self.keep_alive {
            let probes = socket2::TcpKeepalive::new().with_time(after).with_interval(after);
            socket2::SockRef::from(&stream)
                .set_tcp_keepalive(&probes)
                .map_err(|error| failed(error.to_string()))?;
        }
        let dial = match &self.tls {
            None => Dial::plain(address.to_owned()),
            Some(config) => {
                let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
                let host = host.trim_start_matches('[').trim_end_matches(']');
                Dial::secure(address.to_owned(), host, Arc::clone(config))
                    .map_err(|error| failed(error.to_string()))?
            }
        };
        let stream = dial.over(stream).await;
        Ok(Box::new(stream.map_err(|error| failed(error.to_string()))?))
    }

    async fn log_in(&self, stream: &mut dyn Stream, address: &str) -> Result<(), Failure> {
        let mut sasl = Sasl {
            stream,
            address,
            client_id: &self.client_id,
            mechanism: "",
        };
        match &self.login {
            Login::None => Ok(()),
            Login::Password {
                mechanism,
                user,
                password: Hidden(password),
            } => {
                sasl.begin(mechanism.name()).await?;
                let hash = match mechanism {
                    Mechanism::Plain => {
                        let words = format!("\0{user}\0{password}");
                        return sasl.say(words.as_bytes()).await.map(drop);
                    }
                    Mechanism::Sha256 => Hash::Sha256,
                    Mechanism::Sha512 => Hash::Sha512,
                };
                sasl.scram(Exchange::new(hash, user, password)).await
            }
            Login::Token(settings) => {
                let token = match &self.tokens {
                    Some(tokens) => tokens.current().await?,
                    None => return Err(sasl.refused("there are no tokens")),
                };
                sasl.begin(OAUTHBEARER).await?;
                // A broker that does not like the token says so in words of its own.
                let said = sasl
                    .say(&oauth::first_words(&token, &settings.extensions))
                    .await?;
                if said.is_empty() {
                    Ok(())
                } else {
                    Err(sasl.refused(&String::from_utf8_lossy(&said)))
                }
            }
        }
    }
}

/// A login under way.
struct Sasl<'a> {
    stream: &'a mut dyn Stream,
    address: &'a str,
    client_id: &'a str,
    mechanism: &'static str,
}

impl Sasl<'_> {
    async fn begin(&mut self, mechanism: &'static str) -> Result<(), Failure> {
        self.mechanism = mechanism;
        let request = SaslHandshake { mechanism };
        let answer = exchange(self.stream, self.address, self.client_id, &request).await?;
        match Code::of(answer.code) {
            None => Ok(()),
            Some(code) if answer.offered.is_empty() => Err(self.refused(&code.to_string())),
            Some(code) => {
                let offered = answer.offered.join(", ");
                Err(self.refused(&format!(
                    "{code}; offered are {offered}: set authType and saslMechanism"
                )))
            }
        }
    }

    async fn say(&mut self, bytes: &[u8]) -> Result<bytes::Bytes, Failure> {
        let answer = exchange(
            self.stream,
            self.address,
            self.client_id,
            &SaslAuthenticate { bytes },
        )
        .await?;
        match Code::of(answer.code) {
            None => Ok(answer.bytes),
            Some(code) if answer.message.is_empty() => Err(self.refused(&code.to_string())),
            Some(_) => Err(self.refused(&answer.message)),
        }
    }

    async fn scram(&mut self, exchange: Exchange<'_>) -> Result<(), Failure> {
        let challenge = self.say(exchange.first().as_bytes()).await?;
        let proof = exchange.proof(&challenge).map_err(|cause| self.refused(cause))?;
        let verdict = self.say(proof.message.as_bytes()).await?;
        proof.check(&verdict).map_err(|cause| self.refused(cause))
    }

    fn refused(&self, cause: &str) -> Failure {
        Failure::Login {
            address: self.address.to_owned(),
            mechanism: self.mechanism,
            cause: cause.to_owned(),
        }
    }
}
