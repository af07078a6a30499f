//! A sidecar that has run out of file descriptors.

use crate::cluster::{Cluster, SOON};
use outrigger_testkit::client::Client;
use outrigger_testkit::port::Port;
use outrigger_testkit::process::{Process, outrigger};
use tokio::net::TcpStream;

/// Every file descriptor taken: nobody gets in, and when some are free again, everybody does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_connections_than_files() {
    let cluster = Cluster::new();
    let port = Port::take();
    let address = ("127.0.0.1", port.number());
    let command = "ulimit -n 80; exec \"$0\" daprd --app-id shop --dapr-listen-addresses 127.0.0.1 \
        --dapr-grpc-port 0 --enable-metrics=false --dapr-internal-grpc-listen-address 127.0.0.1 --dapr-http-port \"$1\"";
    let mut process = Process::new("shop", "/bin/sh", cluster.folder())
        .args(["-c", command])
        .args([outrigger().as_os_str(), port.number().to_string().as_ref()]);
    process.start();
    let client = Client::new(SOON);
    let health = format!("http://127.0.0.1:{}/v1.0/healthz", port.number());
    client.until(&health, 204, SOON).await;
    let mut idle = Vec::new();
    for _ in 0..150 {
        idle.push(TcpStream::connect(address).await.expect("the kernel takes it"));
    }
    // A connection from before is served all the time.
    assert_eq!(client.get(&health).await.expect("it is connected").status, 204);
    drop(idle);
    Client::new(SOON).until(&health, 204, SOON).await;
    process.terminate();
    assert_eq!(process.exit(SOON).await.code(), Some(0), "{}", process.tail());
}
