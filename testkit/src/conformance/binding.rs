//! Bindings, as the reference's suite tries them: what is created can be got, listed, read and deleted, as far as the
//! binding says that it can.

use bytes::Bytes;
use futures::StreamExt as _;
use outrigger_component::binding::{InputBinding, Invoke, Output, OutputBinding};
use outrigger_component::error::{Error, Kind};
use outrigger_component::metadata::Metadata;
use std::collections::BTreeSet;
use std::time::Duration;

/// What is asked of the binding.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// All operations, in any order.
    pub operations: &'a [&'a str],
    /// Sent along with each request.
    pub metadata: &'a [(&'a str, &'a str)],
    /// Sent along with `list` instead.
    pub listing: Option<&'a [(&'a str, &'a str)]>,
    /// What is created.
    pub data: &'a [u8],
    /// `get` answers what `create` was given, and `delete` takes it away.
    pub keeps: bool,
    /// An event that the app could not handle comes again within this time.
    pub redelivery: Option<Duration>,
    /// What was created is read within this time.
    pub patience: Duration,
}

impl<'a> Ask<'a> {
    /// `data` created, got and deleted with the same metadata.
    pub const fn new(operations: &'a [&'a str], metadata: &'a [(&'a str, &'a str)], data: &'a [u8]) -> Self {
        Self {
            operations,
            metadata,
            listing: None,
            data,
            keeps: true,
            redelivery: None,
            patience: Duration::from_secs(10),
        }
    }
}

/// Runs all cases for a binding with a calling side, a reading side, or both of the same resource.
///
/// # Panics
/// When the binding does not do what it says.
pub async fn run(output: Option<&dyn OutputBinding>, input: Option<&dyn InputBinding>, ask: Ask<'_>) {
    if let Some(input) = input {
        input.ping().await.expect("the resource is there");
    }
    let mut reading = match input {
        Some(input) => Some(input.read().await.expect("reading begins")),
        None => None,
    };
    let Some(output) = output else {
        let reading = reading.as_mut().expect("a binding has at least one side");
        let event = tokio::time::timeout(ask.patience, reading.events.next()).await;
        let event = event.expect("an event in time").expect("the reading goes on");
        event.settle(Ok(Bytes::new()));
        return;
    };
    output.ping().await.expect("the resource is there");
    let claimed: BTreeSet<&str> = output.operations().iter().copied().collect();
    assert_eq!(claimed, ask.operations.iter().copied().collect(), "operations");
    let has = |operation| claimed.contains(operation);
    if has("create") {
        call(output, "create", ask).await.expect("created");
    }
    if has("get") {
        let got = call(output, "get", ask).await.expect("got");
        if ask.keeps {
            let got = got.expect("it has something to say").data;
            assert_eq!(got, ask.data, "what was created");
        }
    }
    if has("list") {
        let ask = Ask {
            metadata: ask.listing.unwrap_or(ask.metadata),
            ..ask
        };
        call(output, "list", ask).await.expect("listed");
    }
    if let (Some(reading), true) = (reading.as_mut(), has("create")) {
        let event = tokio::time::timeout(ask.patience, reading.events.next()).await;
        let event = event
            .expect("what was created is read in time")
            .expect("the reading goes on");
        assert_eq!(event.data, ask.data, "what was created");
        if let Some(redelivery) = ask.redelivery {
            event.settle(Err(Error::new(Kind::Unavailable, "the app is away")));
            let event = tokio::time::timeout(ask.patience + redelivery, reading.events.next()).await;
            let event = event
                .expect("what was not handled comes again")
                .expect("the reading goes on");
            assert_eq!(event.data, ask.data, "what was not handled");
            event.settle(Ok(Bytes::new()));
        } else {
            event.settle(Ok(Bytes::new()));
        }
    }
    if has("delete") {
        call(output, "delete", ask).await.expect("deleted");
        if has("get") && ask.keeps {
            match call(output, "get", ask).await {
                Ok(got) => assert!(got.is_none_or(|got| got.data.is_empty()), "it is deleted"),
                Err(error) => assert_eq!(error.kind, Kind::NotFound, "{error}"),
            }
        }
    }
    drop(reading);
    output.close().await;
    if let Some(input) = input {
        input.close().await;
    }
}

async fn call(output: &dyn OutputBinding, operation: &str, ask: Ask<'_>) -> Result<Option<Output>, Error> {
    let invoke = Invoke {
        operation: operation.to_owned(),
        data: Bytes::copy_from_slice(ask.data),
        metadata: Metadata::from_iter(ask.metadata.iter().copied()),
    };
    output.invoke(invoke).await.map_err(|failed| failed.error)
}
