//! A schema registry that speaks Confluent's protocol: Apicurio (Maven Central; needs Java and Maven), keeping schemas in
//! memory.

use super::life::{Life, installed};
use crate::client::Client;
use crate::maven;
use crate::port::Port;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The last line that runs on Java 17.
const VERSION: &str = "2.6.13.Final";
/// How long a Java server may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
const ANSWER: Duration = Duration::from_secs(10);

pub struct SchemaRegistry {
    life: Life,
    port: Port,
    program: PathBuf,
    client: Client,
}

/// Starts a server. `None`, said loudly, if Java is not installed or the program cannot be had.
///
/// # Panics
/// When a server that is there does not start.
pub async fn start() -> Option<SchemaRegistry> {
    if !installed("java", "openjdk-17-jre-headless") {
        return None;
    }
    let name = format!("apicurio-registry-app-{VERSION}");
    let artifact = format!("io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all");
    let folder = match maven::unpacked(&artifact, &format!("{name}-all.tar.gz"), &name) {
        Ok(folder) => folder,
        Err(why) => {
            super::skipped(&format!("the schema registry Apicurio cannot be had: {why}"));
            return None;
        }
    };
    let mut registry = SchemaRegistry {
        life: Life::new("apicurio"),
        port: Port::take(),
        program: folder.join(format!("{name}-runner.jar")),
        client: Client::new(ANSWER),
    };
    registry.restart().await;
    Some(registry)
}

impl SchemaRegistry {
    /// What clients of Confluent's registry are given.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/apis/ccompat/v7", self.port.number())
    }

    /// Registers a schema as the newest of a subject; its number.
    ///
    /// # Panics
    /// When the server refuses it.
    pub async fn register(&self, subject: &str, schema: &str) -> u32 {
        let body = serde_json::json!({ "schema": schema }).to_string();
        let url = format!("{}/subjects/{subject}/versions", self.url());
        let answer = self
            .client
            .post_json(&url, body)
            .await
            .expect("the registry answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let registered: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        let number = registered["id"].as_u64().and_then(|id| u32::try_from(id).ok());
        number.expect("a number")
    }

    /// SIGKILL. What it knew is gone.
    ///
    /// # Panics
    /// When it is not running.
    pub fn kill(&mut self) {
        self.life.kill();
    }

    /// Starts it again, empty, at the same place.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        let port = self.port.number();
        self.life.begin(
            Command::new("java")
                .args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
                .arg("-Dquarkus.http.host=127.0.0.1")
                .arg(format!("-Dquarkus.http.port={port}"))
                .arg("-jar")
                .arg(&self.program)
                .current_dir(self.program.parent().expect("it is in a folder")),
        );
        let url = format!("http://127.0.0.1:{port}/health/ready");
        self.client.until(&url, 200, PATIENCE).await;
    }
}
