//! The HTTP door: the input is what a client sends on one connection, until it has nothing more to say.
//!
//! Whatever it is, the connection ends, and what comes back is HTTP.
#![no_main]

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use outrigger_fuzz::Bench;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fuzz_target!(|bytes: &[u8]| {
    Bench::with(|bench| {
        let service = bench.door.service(None);
        let answer = bench.run(async {
            let (client, server) = tokio::io::duplex(1 << 16);
            let connection = http1::Builder::new()
                .half_close(true)
                .serve_connection(TokioIo::new(server), service)
                .with_upgrades();
            let (mut reader, mut writer) = tokio::io::split(client);
            let sends = async move {
                // A server that refuses early closes before everything is written.
                if writer.write_all(bytes).await.is_ok() {
                    writer.shutdown().await.ok();
                }
            };
            let mut answer = Vec::new();
            let reads = async { reader.read_to_end(&mut answer).await };
            let (_, _, read) = futures::future::join3(sends, connection, reads).await;
            read.expect("memory");
            answer
        });
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1."),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    });
});
