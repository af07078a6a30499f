//! The demo on other brokers and stores: only the YAML differs, and the kill in the middle loses nothing.

use crate::cluster::quick;
use outrigger_testkit::process::{Process, outrigger};
use outrigger_testkit::servers::{kafka, postgresql, rabbitmq, redis, skipped};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// A message that the killed service held comes to its successor after a minute or more on some brokers.
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::test]
async fn redis_loses_nothing() {
    if quick() {
        return skipped("the demo on Redis is not run by quick tests");
    }
    let Some(redis) = redis::start(&[]).await else {
        return;
    };
    demo("redis", &[("localhost:6379", redis.host())]).await;
}

#[tokio::test]
async fn rabbitmq_loses_nothing() {
    if quick() {
        return skipped("the demo on RabbitMQ is not run by quick tests");
    }
    let (Some(rabbitmq), Some(redis)) = (rabbitmq::start(&[]).await, redis::start(&[]).await) else {
        return;
    };
    demo(
        "rabbitmq",
        &[
            ("amqp://guest:guest@localhost:5672", rabbitmq.uri()),
            ("localhost:6379", redis.host()),
        ],
    )
    .await;
}

#[tokio::test]
async fn kafka_and_postgresql_lose_nothing() {
    if quick() {
        return skipped("the demo on Kafka and PostgreSQL is not run by quick tests");
    }
    let (Some(kafka), Some(postgresql)) = (kafka::start().await, postgresql::start(&[]).await) else {
        return;
    };
    demo(
        "kafka",
        &[
            ("localhost:9092", kafka.plain()),
            (
                "host=localhost user=postgres password=postgres port=5432 database=postgres",
                postgresql.connection_string(),
            ),
        ],
    )
    .await;
}

/// Runs the demo with `examples/orders/NAME`, addresses replaced.
async fn demo(name: &str, addresses: &[(&str, String)]) {
    let folder = TempDir::new().unwrap();
    let resources = folder.path().join("resources");
    std::fs::create_dir(&resources).unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples/orders")
        .join(name);
    for file in ["components.yaml", "subscriptions.yaml"] {
        let mut text = std::fs::read_to_string(example.join(file)).unwrap();
        for (usual, address) in addresses {
            text = text.replace(usual, address);
        }
        std::fs::write(resources.join(file), text).unwrap();
    }
    let mut demo = Process::new("demo", outrigger(), folder.path())
        .args([
            "demo",
            "--json",
            "--orders",
            "200",
            "--rate",
            "100",
            "--resources",
        ])
        .args([&resources])
        .env("TMPDIR", folder.path());
    demo.start();
    let status = demo.exit(PATIENCE).await;
    let said = demo.output();
    let verdict: Value = said
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str(line).ok())
        .unwrap_or_else(|| panic!("no verdict, {status}:\n{said}"));
    assert!(status.success(), "{said}");
    for (key, value) in [
        ("orders", 200),
        ("billed", 200),
        ("notified", 200),
        ("shipped", 200),
        ("lost", 0),
        ("killed", 2),
    ] {
        assert_eq!(verdict[key], value, "{key}: {said}");
    }
}
