//! `nameresolution.mdns`: sidecars of one network find each other by multicast DNS, without any server.
//!
//! One task owns the sockets: it announces this sidecar, answers for it, and takes in what others say. Lookups read
//! the [`Directory`]; only for an app that is not in it they ask the network, and wait at most [`PATIENCE`] for the
//! first answer. Known apps are asked for again every [`REFRESH_EVERY`], so addresses come and go without anybody
//! waiting.
//!
//! Deliberately own packets rather than a library: the service type of the reference is the bare app id, which
//! libraries refuse as malformed.
//!
//! COMPAT(components-contrib nameresolution/mdns): names, texts, times. Unlike there, a machine with nothing but a
//! loopback interface works, and a sidecar that ends says so at once.

mod directory;
mod link;
mod packet;
#[cfg(test)]
mod tests;

use directory::{Directory, Ourselves};
use link::{Link, Received};
use outrigger_component::Component;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::resolver::{Endpoint, NameResolver, Target};
use outrigger_component::setup::Setup;
use outrigger_daemon::drain;
use outrigger_daemon::log::{Log, hostname};
use outrigger_daemon::tasks::{OnExit, Tasks};
use packet::Packet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior};

/// How long a lookup waits for the network.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// How often known apps are asked for again, and new interfaces looked for.
pub const REFRESH_EVERY: Duration = Duration::from_secs(25);
/// A lookup asks at once and again after these times: packets do get lost.
const ASK_AGAIN: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(600),
];
/// Announcements after the first, and when (RFC 6762, 8.3).
const ANNOUNCE_AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];
/// Questions on their way to the task; more wait.
const QUESTIONS: usize = 64;
/// Pause after a socket failed, lest a broken one keeps a core busy.
const AFTER_FAILURE: Duration = Duration::from_millis(200);
const MDNS_PORT: u16 = 5353;

pub struct Resolver {
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
    tasks: Tasks,
}

struct Shared {
    directory: Mutex<Directory>,
    /// Some app has a new address.
    learned: Notify,
}

enum Order {
    /// Ask the network for an app.
    Ask(String),
    /// Say farewell and end.
    Stop,
}

impl Resolver {
    /// Opens the sockets and announces this sidecar. Takes no metadata.
    ///
    /// # Errors
    /// `Invalid` if the instance has no id, address or port, or its id cannot be a domain name; `Unavailable` if the
    /// machine has no multicast.
    pub async fn start(setup: Setup<()>) -> Result<Self> {
        let instance = &setup.instance;
        if instance.app_id.is_empty() {
            return Err(Error::invalid("name is missing"));
        }
        if instance.internal_port == 0 {
            return Err(Error::invalid("port is missing or invalid"));
        }
        let address: IpAddr = instance.host.parse().map_err(|_| {
            Error::invalid(format!(
                "host address {:?} is not an IP address: mDNS announces addresses only",
                instance.host
            ))
        })?;
        let host = hostname();
        // One process can host several sidecars, so its id alone does not name one.
        let name = format!("{host}:{}:{}", std::process::id(), instance.internal_port);
        let ourselves = Ourselves::new(&instance.app_id, &host, &name, address, instance.internal_port)
            .ok_or_else(|| {
                Error::invalid(format!(
                    "app id {:?} cannot be a domain name: use labels of 1 to 63 bytes",
                    instance.app_id
                ))
            })?;
        let link = Link::open().map_err(|error| {
            Error::caused(Kind::Unavailable, "mDNS is not possible on this machine", error)
        })?;
        let shared = Arc::new(Shared {
            directory: Mutex::default(),
            learned: Notify::new(),
        });
        let (orders, inbox) = mpsc::channel(QUESTIONS);
        let tasks = Tasks::new(&setup.log, drain::channel().0);
        setup.log.info(format_args!(
            "local service entry announced: {} -> {}:{}",
            instance.app_id, instance.host, instance.internal_port
        ));
        let speaker = Speaker {
            link,
            ourselves,
            shared: Arc::clone(&shared),
            log: setup.log,
        };
        tasks.spawn("mDNS", OnExit::Log, speaker.run(inbox));
        Ok(Self {
            shared,
            orders,
            tasks,
        })
    }
}

#[async_trait::async_trait]
impl Component for Resolver {
    async fn close(&self) {
        if self.orders.send(Order::Stop).await.is_ok() {
            // Only a farewell is awaited; without it, the others notice within a minute.
            let _ended = self.tasks.join(PATIENCE).await;
        }
    }
}

#[async_trait::async_trait]
impl NameResolver for Resolver {
    /// Waits at most [`PATIENCE`]; the first answer from the network ends the wait.
    async fn resolve(&self, target: &Target) -> Result<Vec<Endpoint>> {
        let app_id = &target.app_id;
        let began = Instant::now();
        let mut questions = [Duration::ZERO].into_iter().chain(ASK_AGAIN).chain([PATIENCE]);
        let mut next = questions.next();
        loop {
            let learned = self.shared.learned.notified();
            tokio::pin!(learned);
            learned.as_mut().enable();
            let found = self.shared.directory().look_up(app_id, Instant::now());
            let Some(wait) = next.filter(|_| found.is_empty()) else {
                return Ok(found);
            };
            tokio::select! {
                () = learned => continue,
                () = tokio::time::sleep_until(began + wait) => {}
            }
            next = questions.next();
            if next.is_some() {
                let ask = self.orders.send(Order::Ask(app_id.clone())).await;
                ask.map_err(|_| Error::new(Kind::Unavailable, "mDNS resolver is closed"))?;
            }
        }
    }

    fn unreachable(&self, target: &Target, endpoint: &Endpoint) {
        if self.shared.directory().forget(&target.app_id, endpoint) {
            // A full inbox asks soon enough by itself: the next lookup does.
            let _asked = self.orders.try_send(Order::Ask(target.app_id.clone()));
        }
    }
}

impl Shared {
    fn directory(&self) -> MutexGuard<'_, Directory> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The owner of the sockets.
struct Speaker {
    link: Link,
    ourselves: Ourselves,
    shared: Arc<Shared>,
    log: Log,
}

impl Speaker {
    async fn run(mut self, mut inbox: mpsc::Receiver<Order>) {
        let began = Instant::now();
        let mut again = ANNOUNCE_AGAIN.into_iter();
        let mut announce_at = Some(began);
        let mut refresh = tokio::time::interval_at(began + REFRESH_EVERY, REFRESH_EVERY);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                received = self.link.receive() => match received {
                    Ok(received) => self.hear(&received),
                    Err(error) => {
                        self.log.debug(format_args!("mDNS: cannot receive: {error}"));
                        tokio::time::sleep(AFTER_FAILURE).await;
                    }
                },
                order = inbox.recv() => match order {
                    Some(Order::Ask(app_id)) => self.ask(&app_id),
                    Some(Order::Stop) => {
                        self.say(&self.ourselves.farewell());
                        return;
                    }
                    None => return,
                },
                () = at(announce_at) => {
                    self.say(&self.ourselves.announcement());
                    announce_at = again.next().map(|after| began + after);
                }
                _ = refresh.tick() => self.refresh(),
            }
        }
    }

    fn hear(&self, received: &Received) {
        let Some(packet) = Packet::read(&received.bytes) else {
            return;
        };
        if packet.is_response {
            if self.shared.directory().learn(&packet, Instant::now()) {
                self.shared.learned.notify_waiters();
            }
            return;
        }
        let Some((mut answer, alone)) = self.ourselves.answer(&packet) else {
            return;
        };
        // A plain resolver, which listens on a port of its own and wants to see its question (RFC 6762, 6.7).
        let plain = received.from.port() != MDNS_PORT;
        if plain {
            answer.questions = packet.questions;
        }
        if !alone && !plain {
            self.say(&answer);
        } else if let Err(error) = self.link.send_to(&answer.write(), received.from) {
            self.log
                .debug(format_args!("mDNS: cannot answer {}: {error}", received.from));
        }
    }

    fn ask(&self, app_id: &str) {
        let question = self.shared.directory().question(app_id, Instant::now());
        if let Some(question) = question {
            self.say(&question);
        }
    }

    fn refresh(&mut self) {
        if let Err(error) = self.link.look_around() {
            self.log
                .debug(format_args!("mDNS: cannot list network interfaces: {error}"));
        }
        let known = self.shared.directory().refresh(Instant::now());
        for app_id in known {
            self.ask(&app_id);
        }
    }

    fn say(&self, packet: &Packet) {
        if self.link.send(&packet.write()) == 0 {
            self.log.debug("mDNS: no network interface took the packet");
        }
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
