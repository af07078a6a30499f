//! What is known of other sidecars, and what we tell of ourselves. No I/O, no clock: packets and moments in, packets
//! and endpoints out.
//!
//! COMPAT(components-contrib nameresolution/mdns; grandcat/zeroconf): the service type is the app id itself
//! (`<app id>.local.`, no `_tcp`), the one text is the app id, and an answer counts only if one packet holds the
//! service, its text and an address of its host. IPv4 is preferred.

#[cfg(test)]
mod tests;

use super::packet::{A, AAAA, ANY, Data, Name, PTR, Packet, Question, Record, SRV, TXT};
use outrigger_component::resolver::Endpoint;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::time::Instant;

/// How long an address is trusted after it was last heard of.
pub(super) const TRUSTED: Duration = Duration::from_secs(60);
/// Many callers can miss the same app at once; the network is asked once for all.
const NOT_TWICE_WITHIN: Duration = Duration::from_millis(50);
/// How long an app is kept in mind after somebody last asked for it.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Apps kept in mind, and instances of each: what a noisy network can make us hold.
const MOST_APPS: usize = 4096;
const MOST_INSTANCES: usize = 1024;
/// Of our records, in seconds (RFC 6762, 10).
const OUR_TTL: u32 = 120;
/// Asks which types of service there are.
const ALL_TYPES: &str = "_services._dns-sd._udp.local";

/// The apps that somebody asked for, and where they are.
#[derive(Default)]
pub(super) struct Directory {
    apps: HashMap<String, App>,
}

struct App {
    /// When somebody last wanted to know.
    asked: Instant,
    /// When the network was last asked.
    sent: Option<Instant>,
    instances: BTreeMap<Name, Heard>,
}

struct Heard {
    at: SocketAddr,
    until: Instant,
}

/// This sidecar.
pub(super) struct Ourselves {
    service: Name,
    instance: Name,
    host: Name,
    app_id: String,
    address: IpAddr,
    port: u16,
}

impl Directory {
    /// Where the app is, as far as known, and that it is of interest from now on.
    pub(super) fn look_up(&mut self, app_id: &str, now: Instant) -> Vec<Endpoint> {
        if !self.apps.contains_key(app_id) {
            self.make_room();
            self.apps.insert(
                app_id.to_owned(),
                App {
                    asked: now,
                    sent: None,
                    instances: BTreeMap::new(),
                },
            );
        }
        let Some(app) = self.apps.get_mut(app_id) else {
            return Vec::new();
        };
        app.asked = now;
        let live = || {
            app.instances
                .values()
                .filter(|heard| now < heard.until)
                .map(|heard| heard.at)
        };
        let version_4 = live().any(|at| at.is_ipv4());
        live()
            .filter(|at| at.is_ipv4() == version_4)
            .map(|at| Endpoint(at.to_string()))
            .collect()
    }

    /// What to ask the network about an app; `None` if it has just been asked, or the id is no domain name.
    pub(super) fn question(&mut self, app_id: &str, now: Instant) -> Option<Packet> {
        let app = self.apps.get_mut(app_id)?;
        if app.sent.is_some_and(|sent| now < sent + NOT_TWICE_WITHIN) {
            return None;
        }
        app.sent = Some(now);
        Some(Packet::query(vec![Question {
            name: service(app_id)?,
            kind: PTR,
            unicast: false,
        }]))
    }

    /// Forgets an address. Answers whether it was known.
    pub(super) fn forget(&mut self, app_id: &str, endpoint: &Endpoint) -> bool {
        let Some(app) = self.apps.get_mut(app_id) else {
            return false;
        };
        let before = app.instances.len();
        app.instances
            .retain(|_, heard| heard.at.to_string() != endpoint.0);
        app.instances.len() < before
    }

    /// Takes in a response. Answers whether an address is new.
    pub(super) fn learn(&mut self, packet: &Packet, now: Instant) -> bool {
        let mut news = false;
        for record in packet.records() {
            let Data::Srv { port, target } = &record.data else {
                continue;
            };
            let Some(app) = self.whose(packet, &record.name) else {
                continue;
            };
            if record.ttl == 0 {
                app.instances.remove(&record.name);
                continue;
            }
            let Some(address) = address(packet, target) else {
                continue;
            };
            let heard = Heard {
                at: SocketAddr::new(address, *port),
                until: now + TRUSTED,
            };
            if let Some(known) = app.instances.get_mut(&record.name) {
                news |= known.at != heard.at || known.until <= now;
                *known = heard;
            } else if app.instances.len() < MOST_INSTANCES {
                app.instances.insert(record.name.clone(), heard);
                news = true;
            }
        }
        news
    }

    /// The app that an instance belongs to: its text says so and its name agrees.
    fn whose(&mut self, packet: &Packet, instance: &Name) -> Option<&mut App> {
        let texts = packet.records().find_map(|record| match &record.data {
            Data::Txt(texts) if record.name == *instance => Some(texts),
            _ => None,
        })?;
        let app_id = std::str::from_utf8(texts.first()?).ok()?;
        let service = service(app_id)?;
        let app = self.apps.get_mut(app_id)?;
        instance.is_below(&service).then_some(app)
    }

    /// Drops what is too old; answers the apps to ask for again.
    pub(super) fn refresh(&mut self, now: Instant) -> Vec<String> {
        for app in self.apps.values_mut() {
            app.instances.retain(|_, heard| now < heard.until);
        }
        self.apps.retain(|_, app| now < app.asked + REMEMBERED);
        let known = self.apps.iter().filter(|(_, app)| !app.instances.is_empty());
        known.map(|(app_id, _)| app_id.clone()).collect()
    }

    fn make_room(&mut self) {
        if self.apps.len() < MOST_APPS {
            return;
        }
        let oldest = self
            .apps
            .iter()
            .min_by_key(|(_, app)| app.asked)
            .map(|(app_id, _)| app_id.clone());
        oldest.map(|app_id| self.apps.remove(&app_id));
    }
}

impl Ourselves {
    /// `instance` and `host` are made of the host's name. `None` if that or the app id do not fit into a domain name.
    pub(super) fn new(app_id: &str, host: &str, instance: &str, address: IpAddr, port: u16) -> Option<Self> {
        // Text in a record is at most 255 bytes; the app id is in a name as well, which is shorter.
        Some(Self {
            service: service(app_id)?,
            instance: Name::new(&format!("{instance}.{app_id}.local"))?,
            host: Name::new(&format!("{host}.local"))?,
            app_id: app_id.to_owned(),
            address,
            port,
        })
    }

    /// What to say unasked.
    pub(super) fn announcement(&self) -> Packet {
        let mut packet = self.presence(OUR_TTL);
        packet.answers.extend([self.service_type(), self.address()]);
        packet
    }

    /// Takes back what was announced, but for what others may say as well.
    pub(super) fn farewell(&self) -> Packet {
        self.presence(0)
    }

    /// What to answer, and whether to the querier alone. `None` if there is nothing to say.
    pub(super) fn answer(&self, query: &Packet) -> Option<(Packet, bool)> {
        // Somebody claims a name and does not ask.
        if query.is_response || !query.authorities.is_empty() {
            return None;
        }
        let all_types = Name::new(ALL_TYPES).expect("a sound name");
        let mut answers = Vec::new();
        let mut unicast = true;
        for question in &query.questions {
            let wants = |kind| question.kind == kind || question.kind == ANY;
            let before = answers.len();
            if question.name == self.service && wants(PTR) && !self.is_known(query) {
                answers.push(self.pointer(OUR_TTL));
            } else if question.name == all_types && wants(PTR) {
                answers.push(self.service_type());
            } else if question.name == self.instance {
                answers.extend(wants(SRV).then(|| self.service_record(OUR_TTL)));
                answers.extend(wants(TXT).then(|| self.text(OUR_TTL)));
            }
            unicast &= answers.len() == before || question.unicast;
        }
        if answers.is_empty() {
            return None;
        }
        // Everything else that the querier would ask for next.
        let rest = [self.service_record(OUR_TTL), self.text(OUR_TTL), self.address()];
        let additional = rest
            .into_iter()
            .filter(|record| !answers.contains(record))
            .map(shared)
            .collect();
        let mut response = Packet::response(answers, additional);
        response.id = query.id;
        Some((response, unicast))
    }

    /// The querier says that it knows us, and for long enough (RFC 6762, 7.1).
    fn is_known(&self, query: &Packet) -> bool {
        query.answers.iter().any(|known| {
            known.ttl >= OUR_TTL / 2
                && matches!(&known.data, Data::Ptr(instance) if *instance == self.instance)
        })
    }

    fn presence(&self, ttl: u32) -> Packet {
        Packet::response(
            vec![self.service_record(ttl), self.text(ttl), self.pointer(ttl)],
            Vec::new(),
        )
    }

    fn pointer(&self, ttl: u32) -> Record {
        Record {
            name: self.service.clone(),
            ttl,
            unique: false,
            data: Data::Ptr(self.instance.clone()),
        }
    }

    fn service_type(&self) -> Record {
        let name = Name::new(ALL_TYPES).expect("a sound name");
        Record {
            name,
            ttl: OUR_TTL,
            unique: false,
            data: Data::Ptr(self.service.clone()),
        }
    }

    fn service_record(&self, ttl: u32) -> Record {
        let data = Data::Srv {
            port: self.port,
            target: self.host.clone(),
        };
        Record {
            name: self.instance.clone(),
            ttl,
            unique: true,
            data,
        }
    }

    fn text(&self, ttl: u32) -> Record {
        let data = Data::Txt(vec![self.app_id.clone().into_bytes()]);
        Record {
            name: self.instance.clone(),
            ttl,
            unique: true,
            data,
        }
    }

    /// Not unique: other sidecars and the machine's own responder speak of the same host.
    fn address(&self) -> Record {
        let data = match self.address {
            IpAddr::V4(address) => Data::A(address),
            IpAddr::V6(address) => Data::Aaaa(address),
        };
        Record {
            name: self.host.clone(),
            ttl: OUR_TTL,
            unique: false,
            data,
        }
    }
}

fn service(app_id: &str) -> Option<Name> {
    Name::new(&format!("{app_id}.local"))
}

/// The host's first address in the packet, IPv4 before IPv6.
fn address(packet: &Packet, host: &Name) -> Option<IpAddr> {
    let of = |kind| {
        packet
            .records()
            .filter(|record| record.name == *host)
            .find_map(|record| match record.data {
                Data::A(address) if kind == A => Some(IpAddr::V4(address)),
                Data::Aaaa(address) if kind == AAAA => Some(IpAddr::V6(address)),
                _ => None,
            })
    };
    of(A).or_else(|| of(AAAA))
}

/// Additional records do not flush caches.
fn shared(record: Record) -> Record {
    Record {
        unique: false,
        ..record
    }
}
