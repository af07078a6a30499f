//! Each building block once, with the released Dapr SDK for Rust.
//!
//! The app is both ends: it serves calls, events and bindings over gRPC, and causes them through its sidecar. It prints one line per
//! feature and ends with 0, or with the reason at the first thing that is not as it should be. For what the SDK's `Client`
//! has no method for, its generated stub is used.

use dapr::Client;
use dapr::client::{Etag, StateItem, TonicClientWithAuth};
use dapr::dapr::proto::common::v1::{InvokeRequest, InvokeResponse};
use dapr::dapr::proto::runtime::v1::app_callback_server::{AppCallback, AppCallbackServer};
use dapr::dapr::proto::runtime::v1::dapr_client::DaprClient;
use dapr::dapr::proto::runtime::v1::subscribe_topic_events_request_alpha1::SubscribeTopicEventsRequestType as Say;
use dapr::dapr::proto::runtime::v1::subscribe_topic_events_response_alpha1::SubscribeTopicEventsResponseType as Hear;
use dapr::dapr::proto::runtime::v1::*;
use std::collections::{HashMap, HashSet};
use std::env::var;
use std::error::Error;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tonic::{Request, Response, Status, transport::Channel, transport::Server};

type Done = Result<(), Box<dyn Error>>;
const PATIENCE: Duration = Duration::from_secs(30);

/// What the sidecar calls.
struct Served {
    orders: mpsc::UnboundedSender<String>,
    ticks: mpsc::UnboundedSender<String>,
}

#[tonic::async_trait]
impl AppCallback for Served {
    async fn on_invoke(&self, request: Request<InvokeRequest>) -> Result<Response<InvokeResponse>, Status> {
        let request = request.into_inner();
        if request.method != "shout" {
            return Err(Status::unimplemented(request.method));
        }
        let mut data = request.data.unwrap_or_default();
        data.value.make_ascii_uppercase();
        Ok(Response::new(InvokeResponse { data: Some(data), content_type: "text/plain".into() }))
    }

    async fn list_topic_subscriptions(
        &self,
        _: Request<()>,
    ) -> Result<Response<ListTopicSubscriptionsResponse>, Status> {
        Ok(Response::new(ListTopicSubscriptionsResponse::topic("pubsub".into(), "rust-orders".into())))
    }

    async fn on_topic_event(
        &self,
        request: Request<TopicEventRequest>,
    ) -> Result<Response<TopicEventResponse>, Status> {
        let _ended = self.orders.send(text(request.into_inner().data));
        Ok(Response::new(TopicEventResponse::default()))
    }

    async fn list_input_bindings(&self, _: Request<()>) -> Result<Response<ListInputBindingsResponse>, Status> {
        Ok(Response::new(ListInputBindingsResponse::binding("tick".into())))
    }

    async fn on_binding_event(
        &self,
        request: Request<BindingEventRequest>,
    ) -> Result<Response<BindingEventResponse>, Status> {
        let _ended = self.ticks.send(text(request.into_inner().data));
        Ok(Response::new(BindingEventResponse::default()))
    }

    async fn on_bulk_topic_event(
        &self,
        _: Request<TopicEventBulkRequest>,
    ) -> Result<Response<TopicEventBulkResponse>, Status> {
        Err(Status::unimplemented("nothing is subscribed in bulk"))
    }

    async fn on_job_event(&self, _: Request<JobEventRequest>) -> Result<Response<JobEventResponse>, Status> {
        Err(Status::unimplemented("no job is scheduled"))
    }
}

struct App {
    client: Client<TonicClientWithAuth>,
    stub: DaprClient<Channel>,
    orders: mpsc::UnboundedReceiver<String>,
    ticks: mpsc::UnboundedReceiver<String>,
}

#[tokio::main]
async fn main() {
    if let Err(reason) = run().await {
        println!("failed after that: {reason}");
        std::process::exit(1);
    }
}

async fn run() -> Done {
    let (heard, orders) = mpsc::unbounded_channel();
    let (ticked, ticks) = mpsc::unbounded_channel();
    let address = format!("127.0.0.1:{}", var("APP_PORT")?).parse()?;
    let served = AppCallbackServer::new(Served { orders: heard, ticks: ticked });
    tokio::spawn(Server::builder().add_service(served).serve(address));
    // Does not wait for the sidecar by itself, as other SDKs do.
    let client = timeout(PATIENCE, async {
        loop {
            match Client::new().await {
                Ok(client) => break client,
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    });
    let client = client.await?;
    println!("ok health");
    let stub = DaprClient::connect(format!("http://127.0.0.1:{}", var("DAPR_GRPC_PORT")?)).await?;
    let mut app = App { client, stub, orders, ticks };
    app.metadata().await?;
    app.state().await?;
    app.transactions().await?;
    app.invocation().await?;
    app.pubsub().await?;
    app.streaming().await?;
    app.bindings().await?;
    app.secrets().await?;
    app.configuration().await?;
    app.lock().await
}

impl App {
    async fn metadata(&mut self) -> Done {
        self.client.set_metadata("speaks", "rust").await?;
        let seen = self.client.get_metadata().await?;
        same("id", &seen.id, &var("APP_ID")?)?;
        same("extended", seen.extended_metadata.get("speaks").map(String::as_str), Some("rust"))?;
        let found = seen.registered_components.iter().any(|component| component.name == "statestore");
        same("statestore", found, true)?;
        done("metadata")
    }

    async fn state(&mut self) -> Done {
        self.client.save_state("statestore", "one", b"1".to_vec(), None, None, None).await?;
        let first = self.client.get_state("statestore", "one", None).await?;
        same("first", text(first.data), "1".into())?;
        let etag = Some(Etag { value: first.etag });
        self.client.save_state("statestore", "one", b"2".to_vec(), etag.clone(), None, None).await?;
        let old = self.client.save_state("statestore", "one", b"3".to_vec(), etag, None, None).await;
        same("an old etag is refused", old.is_err_and(|error| format!("{error:?}").contains("Aborted")), true)?;
        let more: Vec<StateItem> = vec![("two", b"b".to_vec()).into(), ("three", b"c".to_vec()).into()];
        self.client.save_bulk_states("statestore", more).await?;
        same("bulk", self.values(&["one", "two", "three"]).await?, "2 b c".into())?;
        self.client.delete_state("statestore", "one", None).await?;
        self.client.delete_bulk_state("statestore", [("three", vec![])]).await?;
        same("deleted", self.values(&["one", "two", "three"]).await?, " b ".into())?;
        done("state")
    }

    /// The values of these keys, separated by blanks.
    async fn values(&mut self, keys: &[&str]) -> Result<String, Box<dyn Error>> {
        let request = GetBulkStateRequest {
            store_name: "statestore".into(),
            keys: keys.iter().map(|key| key.to_string()).collect(),
            ..Default::default()
        };
        let items = self.stub.get_bulk_state(request).await?.into_inner().items;
        let mut values: HashMap<_, _> = items.into_iter().map(|item| (item.key, text(item.data))).collect();
        let values: Vec<_> = keys.iter().map(|key| values.remove(*key).unwrap_or_default()).collect();
        Ok(values.join(" "))
    }

    async fn transactions(&mut self) -> Done {
        let operation = |kind: &str, key: &str, value: &str| TransactionalStateOperation {
            operation_type: kind.into(),
            request: Some((key, value.as_bytes().to_vec()).into()),
        };
        let operations = vec![operation("upsert", "four", "d"), operation("delete", "two", "")];
        let request =
            ExecuteStateTransactionRequest { store_name: "statestore".into(), operations, ..Default::default() };
        self.stub.execute_state_transaction(request).await?;
        same("values", self.values(&["four", "two"]).await?, "d ".into())?;
        done("transactions")
    }

    async fn invocation(&mut self) -> Done {
        let hello = prost_types::Any { value: b"hello".to_vec(), ..Default::default() };
        let answer = self.client.invoke_service(var("APP_ID")?, "shout", Some(hello)).await?;
        same("answer", text(answer.data.unwrap_or_default().value), "HELLO".into())?;
        done("invocation")
    }

    async fn pubsub(&mut self) -> Done {
        // Events of before the sidecar has subscribed need not arrive; those of earlier runs may.
        let arrived = timeout(PATIENCE, async {
            loop {
                let event = br#"{"id":1}"#.to_vec();
                self.client.publish_event("pubsub", "rust-orders", "application/json", event, None).await?;
                let heard = timeout(Duration::from_secs(1), self.orders.recv()).await;
                if heard.is_ok_and(|heard| heard.as_deref() == Some(r#"{"id":1}"#)) {
                    break Ok::<_, dapr::error::Error>(());
                }
            }
        });
        arrived.await??;
        let entry = |text: &str| BulkPublishRequestEntry {
            entry_id: text.into(),
            event: text.into(),
            content_type: "text/plain".into(),
            ..Default::default()
        };
        let request = BulkPublishRequest {
            pubsub_name: "pubsub".into(),
            topic: "rust-orders".into(),
            entries: vec![entry("two"), entry("three")],
            ..Default::default()
        };
        let answer = self.stub.bulk_publish_event(request).await?.into_inner();
        same("failed entries", answer.failed_entries.len(), 0)?;
        let mut left = HashSet::from(["two".to_owned(), "three".to_owned()]);
        while !left.is_empty() {
            left.remove(&next(&mut self.orders).await?);
        }
        done("pubsub")
    }

    async fn streaming(&mut self) -> Done {
        let (say, said) = mpsc::unbounded_channel();
        let message = |say| SubscribeTopicEventsRequestAlpha1 { subscribe_topic_events_request_type: Some(say) };
        let initial = SubscribeTopicEventsRequestInitialAlpha1 {
            pubsub_name: "pubsub".into(),
            topic: "rust-stream".into(),
            ..Default::default()
        };
        say.send(message(Say::InitialRequest(initial)))?;
        let said = tokio_stream::wrappers::UnboundedReceiverStream::new(said);
        let mut stream = self.stub.subscribe_topic_events_alpha1(said).await?.into_inner();
        let subscribed = timeout(PATIENCE, stream.message()).await??.ok_or("the stream ended")?;
        let Some(Hear::InitialResponse(_)) = subscribed.subscribe_topic_events_response_type else {
            return Err("the stream did not begin with the initial response".into());
        };
        self.client.publish_event("pubsub", "rust-stream", "text/plain", b"hello".to_vec(), None).await?;
        let event = timeout(PATIENCE, stream.message()).await??.ok_or("the stream ended")?;
        let Some(Hear::EventMessage(event)) = event.subscribe_topic_events_response_type else {
            return Err("something else than an event came".into());
        };
        same("event", text(event.data), "hello".into())?;
        let status = Some(TopicEventResponse::default());
        say.send(message(Say::EventProcessed(SubscribeTopicEventsRequestProcessedAlpha1 { id: event.id, status })))?;
        done("streaming")
    }

    async fn bindings(&mut self) -> Done {
        next(&mut self.ticks).await?;
        let file = Some(HashMap::from([("fileName".to_owned(), "rust.txt".to_owned())]));
        self.client.invoke_binding("files", b"hello".to_vec(), "create", file.clone()).await?;
        let found = self.client.invoke_binding("files", Vec::new(), "get", file.clone()).await?;
        same("file", text(found.data), "hello".into())?;
        self.client.invoke_binding("files", Vec::new(), "delete", file).await?;
        done("bindings")
    }

    async fn secrets(&mut self) -> Done {
        let one = self.client.get_secret("vault", "greeting").await?;
        same("greeting", one.data.get("greeting").map(String::as_str), Some("hello"))?;
        let every = self.client.get_bulk_secret("vault", None).await?;
        let password = every.data.get("database:password").and_then(|secret| secret.secrets.get("database:password"));
        same("password", password.map(String::as_str), Some("not a real one"))?;
        done("secrets")
    }

    async fn configuration(&mut self) -> Done {
        set_colour("red").await?;
        let colours = self.client.get_configuration("configstore", vec!["colour"], None).await?;
        same("colour", colours.items.get("colour").map(|item| item.value.as_str()), Some("red"))?;
        let mut stream = self.client.subscribe_configuration("configstore", vec!["colour"], None).await?;
        let id = timeout(PATIENCE, stream.message()).await??.ok_or("the stream ended")?.id;
        set_colour("blue").await?;
        let change = timeout(PATIENCE, stream.message()).await??.ok_or("the stream ended")?;
        same("change", change.items.get("colour").map(|item| item.value.as_str()), Some("blue"))?;
        same("unsubscribed", self.client.unsubscribe_configuration("configstore", id.as_str()).await?.ok, true)?;
        done("configuration")
    }

    async fn lock(&mut self) -> Done {
        for (owner, unlocks, expected) in [("ann", false, 1), ("bob", false, 0), ("bob", true, 2), ("ann", true, 0)] {
            let (store_name, resource_id, lock_owner) = ("lockstore".into(), "tray".into(), owner.into());
            let answer = if unlocks {
                self.stub
                    .unlock_alpha1(UnlockRequest { store_name, resource_id, lock_owner })
                    .await?
                    .into_inner()
                    .status
            } else {
                let request = TryLockRequest { store_name, resource_id, lock_owner, expiry_in_seconds: 60 };
                self.stub.try_lock_alpha1(request).await?.into_inner().success.into()
            };
            same(owner, answer, expected)?;
        }
        done("lock")
    }
}

/// Writes a value that the app is then told of; the SDKs themselves can only read configuration.
async fn set_colour(value: &str) -> Done {
    let command = var("SET_COLOUR").unwrap_or_else(|_| "outrigger configuration set colour".into());
    let mut words = command.split(' ');
    let mut command = tokio::process::Command::new(words.next().unwrap_or_default());
    let output = command.args(words).arg(value).output().await?;
    same("success of the command", output.status.success(), true)
}

async fn next(queue: &mut mpsc::UnboundedReceiver<String>) -> Result<String, Box<dyn Error>> {
    Ok(timeout(PATIENCE, queue.recv()).await?.ok_or("nothing came")?)
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Done {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?} instead of {expected:?}").into()) }
}

fn done(feature: &str) -> Done {
    println!("ok {feature}");
    Ok(())
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}
