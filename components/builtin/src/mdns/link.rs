//! The two sockets of multicast DNS, IPv4 and IPv6, and the interfaces they speak on.
//!
//! One socket per family receives for all interfaces; for sending, its outgoing interface is set before each packet,
//! which is sound because one task owns it. Port 5353 is shared with every other responder of the machine.

use if_addrs::{IfAddr, Interface, get_if_addrs};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::UdpSocket;

const PORT: u16 = 5353;
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// A packet never leaves the link (RFC 6762, 11).
const HOPS: u32 = 255;
const LARGEST_PACKET: usize = 9000;

pub(super) struct Link {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    places: BTreeSet<Place>,
}

/// Where to speak: an interface, by its address or by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    V4(Ipv4Addr),
    V6(u32),
}

/// A received packet.
pub(super) struct Received {
    pub bytes: Vec<u8>,
    pub from: SocketAddr,
}

impl Link {
    /// Opens port 5353 and joins the groups on every interface; on the loopback interface if there is no other.
    ///
    /// # Errors
    /// When neither family is available.
    pub(super) fn open() -> io::Result<Self> {
        let v4 = socket_v4();
        let v6 = socket_v6();
        let mut link = match (v4, v6) {
            (Err(error), Err(_)) => return Err(error),
            (v4, v6) => Self {
                v4: v4.ok(),
                v6: v6.ok(),
                places: BTreeSet::new(),
            },
        };
        link.look_around()?;
        if link.places.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::AddrNotAvailable,
                "no interface takes part in multicast",
            ));
        }
        Ok(link)
    }

    /// Joins on interfaces that have come, forgets those that have gone.
    ///
    /// # Errors
    /// When the interfaces cannot be listed; then nothing has changed.
    pub(super) fn look_around(&mut self) -> io::Result<()> {
        let (loopback, others): (Vec<_>, Vec<_>) =
            get_if_addrs()?.into_iter().partition(Interface::is_loopback);
        let mut places = self.join(&others);
        if places.is_empty() {
            places = self.join(&loopback);
        }
        self.places = places;
        Ok(())
    }

    /// The places where joining worked, or had been done before.
    fn join(&self, interfaces: &[Interface]) -> BTreeSet<Place> {
        let mut joined = BTreeSet::new();
        for interface in interfaces {
            let (place, result) = match (&interface.addr, &self.v4, &self.v6, interface.index) {
                (IfAddr::V4(address), Some(socket), _, _) => {
                    let result = SockRef::from(socket).join_multicast_v4(&GROUP_V4, &address.ip);
                    (Place::V4(address.ip), result)
                }
                (IfAddr::V6(_), _, Some(socket), Some(index)) => (
                    Place::V6(index),
                    SockRef::from(socket).join_multicast_v6(&GROUP_V6, index),
                ),
                _ => continue,
            };
            // Which interfaces can do multicast is not told in advance, so a refusal is the answer to that question.
            match result {
                Ok(()) => joined.insert(place),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => joined.insert(place),
                Err(_) => false,
            };
        }
        joined
    }

    /// Sends to everybody on every interface. Answers how many interfaces took the packet.
    pub(super) fn send(&self, packet: &[u8]) -> usize {
        let sent = self
            .places
            .iter()
            .filter(|place| self.send_on(**place, packet).is_ok());
        sent.count()
    }

    fn send_on(&self, place: Place, packet: &[u8]) -> io::Result<usize> {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        match place {
            Place::V4(address) => {
                let socket = self.v4.as_ref().ok_or_else(gone)?;
                SockRef::from(socket).set_multicast_if_v4(&address)?;
                socket.try_send_to(packet, SocketAddr::from((GROUP_V4, PORT)))
            }
            Place::V6(index) => {
                let socket = self.v6.as_ref().ok_or_else(gone)?;
                SockRef::from(socket).set_multicast_if_v6(index)?;
                socket.try_send_to(packet, SocketAddr::from((GROUP_V6, PORT)))
            }
        }
    }

    /// # Errors
    /// Those of the socket.
    pub(super) fn send_to(&self, packet: &[u8], to: SocketAddr) -> io::Result<()> {
        let socket = match to.ip() {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        };
        let socket = socket
            .as_ref()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        socket.try_send_to(packet, to).map(drop)
    }

    /// The next packet. Cancel-safe.
    ///
    /// # Errors
    /// Those of the sockets.
    pub(super) async fn receive(&self) -> io::Result<Received> {
        tokio::select! {
            received = receive(self.v4.as_ref()) => received,
            received = receive(self.v6.as_ref()) => received,
        }
    }
}

async fn receive(socket: Option<&UdpSocket>) -> io::Result<Received> {
    let Some(socket) = socket else {
        return std::future::pending().await;
    };
    loop {
        socket.readable().await?;
        let mut bytes = vec![0; LARGEST_PACKET];
        match socket.try_recv_from(&mut bytes) {
            Ok((length, from)) => {
                bytes.truncate(length);
                return Ok(Received { bytes, from });
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn socket_v4() -> io::Result<UdpSocket> {
    let socket = shared(Domain::IPV4)?;
    socket.set_multicast_ttl_v4(HOPS)?;
    socket.set_multicast_loop_v4(true)?;
    bound(socket, SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)))
}

fn socket_v6() -> io::Result<UdpSocket> {
    let socket = shared(Domain::IPV6)?;
    socket.set_only_v6(true)?;
    socket.set_multicast_hops_v6(HOPS)?;
    socket.set_multicast_loop_v6(true)?;
    bound(socket, SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT)))
}

/// A socket that shares its port.
fn shared(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    // Elsewhere than on Linux, sharing an address is not enough to share a multicast port.
    #[cfg(all(unix, not(target_os = "linux")))]
    socket.set_reuse_port(true)?;
    Ok(socket)
}

fn bound(socket: Socket, address: SocketAddr) -> io::Result<UdpSocket> {
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}
