//! `daprd --wait`: another sidecar's outbound health, waited for.

use crate::Exit;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);
const REQUEST: &[u8] = b"GET /v1.0/healthz/outbound HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// COMPAT(pkg/runtime/wait.go): asks every 100 ms, for up to 60 s.
pub(crate) async fn until_outbound_ready(port: &str) -> Exit {
    let address = format!("127.0.0.1:{port}");
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Ok(Ok(true)) = tokio::time::timeout(Duration::from_secs(1), is_ready(&address)).await {
            return Exit::Said("Dapr is outbound-ready!".to_owned());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Exit::Usage {
        code: 1,
        text: format!("timeout waiting for Dapr to become outbound ready at {address}"),
    }
}

async fn is_ready(address: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(REQUEST).await?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    Ok(head.ends_with(b" 204"))
}
