//! A wire that can be cut: passes on the connections made to it, as long as it is told to.

use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What happens to the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Whole,
    /// Connections stay, and nothing passes.
    Silent,
    /// Connections end, and new ones end at once.
    Cut,
}

/// A running relay; dropping it closes everything.
pub struct Relay {
    port: u16,
    wire: watch::Sender<Wire>,
    _server: JoinSet<()>,
}

impl Relay {
    /// From a free port of the loopback interface to `to`.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let (wire, state) = watch::channel(Wire::Whole);
        let mut server = JoinSet::new();
        server.spawn(serve(listener, to, state));
        Self {
            port,
            wire,
            _server: server,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends all connections, and new ones at once, until [`Relay::heal`].
    pub fn cut(&self) {
        self.wire.send_replace(Wire::Cut);
    }

    /// Passes nothing on, without a word to either side, until [`Relay::heal`].
    pub fn silence(&self) {
        self.wire.send_replace(Wire::Silent);
    }

    /// Passes on again. What was held back by [`Relay::silence`] arrives.
    pub fn heal(&self) {
        self.wire.send_replace(Wire::Whole);
    }
}

async fn serve(listener: TcpListener, to: SocketAddr, state: watch::Receiver<Wire>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(pass(stream, to, state.clone()));
    }
}

async fn pass(mut from: TcpStream, to: SocketAddr, mut state: watch::Receiver<Wire>) {
    if *state.borrow_and_update() == Wire::Cut {
        return;
    }
    let Ok(mut upstream) = TcpStream::connect(to).await else {
        return;
    };
    from.set_nodelay(true).ok();
    upstream.set_nodelay(true).ok();
    let (mut from_read, mut from_write) = from.split();
    let (mut to_read, mut to_write) = upstream.split();
    // Two copies that can be paused: they are kept, and not polled.
    let there = tokio::io::copy(&mut from_read, &mut to_write);
    let back = tokio::io::copy(&mut to_read, &mut from_write);
    tokio::pin!(there, back);
    loop {
        let wire = *state.borrow_and_update();
        match wire {
            Wire::Cut => return,
            Wire::Silent => {
                if state.changed().await.is_err() {
                    return;
                }
            }
            Wire::Whole => tokio::select! {
                // Whoever ends, ends both: no protocol of a broker closes one half.
                _ = &mut there => return,
                _ = &mut back => return,
                changed = state.changed() => if changed.is_err() { return },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Relay;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn passes_holds_and_cuts() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Relay::start(listener.local_addr().unwrap()).await;
        let mut client = TcpStream::connect(("127.0.0.1", relay.port())).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let mut got = [0; 1];
        client.write_all(b"a").await.unwrap();
        server.read_exact(&mut got).await.unwrap();
        relay.silence();
        // A copy that is under way may still pass one piece.
        tokio::task::yield_now().await;
        client.write_all(b"b").await.unwrap();
        let held = tokio::time::timeout(Duration::from_millis(100), server.read_exact(&mut got)).await;
        assert!(held.is_err(), "nothing passes");
        relay.heal();
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"b");
        relay.cut();
        assert!(matches!(client.read(&mut got).await, Ok(0) | Err(_)));
        let mut late = TcpStream::connect(("127.0.0.1", relay.port())).await.unwrap();
        assert!(matches!(late.read(&mut got).await, Ok(0) | Err(_)));
    }
}
