//! State, publishing, secrets, metadata: request by request.

use super::bench::Bench;
use crate::public::Shutdown;
use bytes::Bytes;
use outrigger_channel::wire;
use outrigger_proto::dapr::common::v1::{Etag, StateItem, StateOptions};
use outrigger_proto::dapr::runtime::v1 as proto;
use prost::Message;
use std::collections::HashMap;
use tonic::{Code, Status};

/// Code, text and the names of the details.
fn failure(status: &Status) -> (Code, String, Vec<String>) {
    #[derive(Clone, PartialEq, Message)]
    struct Details {
        #[prost(message, repeated, tag = "3")]
        details: Vec<outrigger_proto::any::Any>,
    }
    let details = Details::decode(status.details()).unwrap().details;
    let names = details
        .into_iter()
        .map(|any| any.type_url.replace("type.googleapis.com/google.rpc.", ""));
    (status.code(), status.message().to_owned(), names.collect())
}

fn item(key: &str, value: &str, etag: Option<&str>) -> StateItem {
    StateItem {
        key: key.to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
        etag: etag.map(|value| Etag {
            value: value.to_owned(),
        }),
        ..StateItem::default()
    }
}

fn save(store: &str, states: Vec<StateItem>) -> proto::SaveStateRequest {
    proto::SaveStateRequest {
        store_name: store.to_owned(),
        states,
    }
}

fn get(store: &str, key: &str) -> proto::GetStateRequest {
    proto::GetStateRequest {
        store_name: store.to_owned(),
        key: key.to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn values_are_stored_byte_for_byte() {
    let Bench { client, .. } = &mut Bench::new().await;
    for value in ["", "plain", "{\"a\": 1}", "\0\u{1}", "\"quoted\""] {
        client
            .save_state(save("s", vec![item("k", value, None)]))
            .await
            .unwrap();
        let found = client.get_state(get("s", "k")).await.unwrap().into_inner();
        assert_eq!(
            (&found.data[..], found.etag.is_empty()),
            (value.as_bytes(), false),
            "{value:?}"
        );
    }
    let absent = client.get_state(get("s", "nothing")).await.unwrap().into_inner();
    assert_eq!(absent, proto::GetStateResponse::default());
}

#[tokio::test]
async fn tags_guard_values() {
    let Bench { client, .. } = &mut Bench::new().await;
    client
        .save_state(save("s", vec![item("k", "1", None)]))
        .await
        .unwrap();
    let tag = client.get_state(get("s", "k")).await.unwrap().into_inner().etag;
    client
        .save_state(save("s", vec![item("k", "2", Some(&tag))]))
        .await
        .unwrap();
    let stale = client
        .save_state(save("s", vec![item("k", "3", Some(&tag))]))
        .await
        .unwrap_err();
    assert_eq!(stale.code(), Code::Aborted, "{stale:?}");
    assert!(
        stale
            .message()
            .starts_with("failed saving state in state store s: possible etag mismatch"),
        "{stale:?}"
    );
    let delete = proto::DeleteStateRequest {
        store_name: "s".to_owned(),
        key: "k".to_owned(),
        etag: Some(Etag { value: tag }),
        ..Default::default()
    };
    assert_eq!(
        client.delete_state(delete.clone()).await.unwrap_err().code(),
        Code::Aborted
    );
    let first_write = StateItem {
        options: Some(StateOptions {
            concurrency: 1,
            consistency: 2,
        }),
        ..item("k", "4", None)
    };
    assert_eq!(
        client
            .save_state(save("s", vec![first_write]))
            .await
            .unwrap_err()
            .code(),
        Code::Aborted
    );
    client
        .delete_state(proto::DeleteStateRequest { etag: None, ..delete })
        .await
        .unwrap();
    assert!(
        client
            .get_state(get("s", "k"))
            .await
            .unwrap()
            .into_inner()
            .data
            .is_empty()
    );
}

#[tokio::test]
async fn several_at_once() {
    let Bench { client, .. } = &mut Bench::new().await;
    client
        .save_state(save("s", vec![item("a", "1", None), item("b", "2", None)]))
        .await
        .unwrap();
    let bulk = || proto::GetBulkStateRequest {
        store_name: "s".to_owned(),
        keys: vec!["a".to_owned(), "none".to_owned(), "b".to_owned(), "c".to_owned()],
        ..Default::default()
    };
    let shown = |items: Vec<proto::BulkStateItem>| -> Vec<String> {
        items
            .into_iter()
            .map(|it| format!("{}={}", it.key, String::from_utf8_lossy(&it.data)))
            .collect()
    };
    assert_eq!(
        shown(client.get_bulk_state(bulk()).await.unwrap().into_inner().items),
        ["a=1", "none=", "b=2", "c="]
    );

    let operation = |kind: &str, item| proto::TransactionalStateOperation {
        operation_type: kind.to_owned(),
        request: Some(item),
    };
    let mut transact = proto::ExecuteStateTransactionRequest {
        store_name: "s".to_owned(),
        operations: vec![
            operation("upsert", item("c", "3", None)),
            operation("delete", item("a", "", None)),
        ],
        ..Default::default()
    };
    client.execute_state_transaction(transact.clone()).await.unwrap();
    assert_eq!(
        shown(client.get_bulk_state(bulk()).await.unwrap().into_inner().items),
        ["a=", "none=", "b=2", "c=3"]
    );
    transact.operations.push(operation("merge", item("d", "4", None)));
    let status = client.execute_state_transaction(transact).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unimplemented, "operation type merge not supported")
    );

    let delete = proto::DeleteBulkStateRequest {
        store_name: "s".to_owned(),
        states: vec![item("b", "", None), item("c", "", None)],
    };
    client.delete_bulk_state(delete).await.unwrap();
    assert_eq!(
        shown(client.get_bulk_state(bulk()).await.unwrap().into_inner().items),
        ["a=", "none=", "b=", "c="]
    );
}

/// A refusal: method, request, code, text, details.
type Row = (&'static str, Vec<u8>, Code, &'static str, &'static [&'static str]);

#[tokio::test]
async fn refusals() {
    let bench = Bench::new().await;
    let publish = |pubsub: &str, topic: &str, metadata: &[(&str, &str)]| {
        proto::PublishEventRequest {
            pubsub_name: pubsub.to_owned(),
            topic: topic.to_owned(),
            metadata: metadata
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..Default::default()
        }
        .encode_to_vec()
    };
    let bulk = |ids: &[&str]| {
        let entries = ids.iter().map(|id| proto::BulkPublishRequestEntry {
            entry_id: (*id).to_owned(),
            ..Default::default()
        });
        let (pubsub_name, topic) = ("p".to_owned(), "t".to_owned());
        proto::BulkPublishRequest {
            pubsub_name,
            topic,
            entries: entries.collect(),
            ..Default::default()
        }
        .encode_to_vec()
    };
    let secret = |store: &str, key: &str| {
        let (store_name, key) = (store.to_owned(), key.to_owned());
        proto::GetSecretRequest {
            store_name,
            key,
            ..Default::default()
        }
        .encode_to_vec()
    };
    let json = StateItem {
        metadata: HashMap::from([("contentType".into(), "application/json".into())]),
        ..item("k", "{", None)
    };
    let query = proto::QueryStateRequest {
        store_name: "s".to_owned(),
        ..Default::default()
    }
    .encode_to_vec();
    let rows: &[Row] = &[
        (
            "GetState",
            get("none", "k").encode_to_vec(),
            Code::InvalidArgument,
            "state store none is not found",
            &["ErrorInfo"],
        ),
        (
            "GetState",
            get("s", "a||b").encode_to_vec(),
            Code::InvalidArgument,
            "input key/keyPrefix 'a||b' can't contain '||'",
            &["BadRequest", "ResourceInfo", "ErrorInfo"],
        ),
        (
            "SaveState",
            save("none", Vec::new()).encode_to_vec(),
            Code::InvalidArgument,
            "state store none is not found",
            &["ErrorInfo"],
        ),
        (
            "SaveState",
            save("s", vec![json]).encode_to_vec(),
            Code::Internal,
            "failed saving state in state store s: EOF while parsing an object at line 1 column 1",
            &["ErrorInfo"],
        ),
        (
            "QueryStateAlpha1",
            query,
            Code::Internal,
            "state store does not support querying",
            &["ResourceInfo", "ErrorInfo"],
        ),
        (
            "PublishEvent",
            publish("none", "t", &[]),
            Code::InvalidArgument,
            "pubsub none is not found",
            &["ErrorInfo"],
        ),
        (
            "PublishEvent",
            publish("", "t", &[]),
            Code::InvalidArgument,
            "pubsub name is empty",
            &["ResourceInfo", "ErrorInfo"],
        ),
        (
            "PublishEvent",
            publish("p", "", &[]),
            Code::InvalidArgument,
            "topic is empty in pubsub p",
            &["ResourceInfo", "ErrorInfo"],
        ),
        (
            "PublishEvent",
            publish("p", "t", &[("rawPayload", "maybe")]),
            Code::InvalidArgument,
            "failed deserializing metadata. Error: rawPayload value must be a valid boolean: actual is 'maybe'",
            &["ResourceInfo", "ErrorInfo"],
        ),
        (
            "PublishEvent",
            publish("p", "closed", &[]),
            Code::PermissionDenied,
            "topic closed is not allowed for app id shop",
            &["ResourceInfo", "ErrorInfo"],
        ),
        (
            "BulkPublishEvent",
            bulk(&["1", "1"]),
            Code::InvalidArgument,
            "error marshaling events to bytes for topic t pubsub p. error: entryId is duplicated or not present for entry",
            &["ResourceInfo", "ErrorInfo"],
        ),
        (
            "BulkPublishEventAlpha1",
            bulk(&[""]),
            Code::InvalidArgument,
            "error marshaling events to bytes for topic t pubsub p. error: entryId is duplicated or not present for entry",
            &["ResourceInfo", "ErrorInfo"],
        ),
        (
            "GetSecret",
            secret("none", "a"),
            Code::InvalidArgument,
            "failed finding secret store with key none",
            &[],
        ),
        (
            "GetSecret",
            secret("v", "broken"),
            Code::Internal,
            "failed getting secret with key broken from secret store v: sealed",
            &[],
        ),
        (
            "InvokeBinding",
            Vec::new(),
            Code::Internal,
            "error invoking output binding : operation field is missing from request",
            &["ErrorInfo"],
        ),
        (
            "ScheduleJobAlpha1",
            Vec::new(),
            Code::Unimplemented,
            "this API is currently not implemented: the method ScheduleJobAlpha1 is not available in this version of Outrigger",
            &[],
        ),
        (
            "",
            Vec::new(),
            Code::Unimplemented,
            "this API is currently not implemented: the method  is not available in this version of Outrigger",
            &[],
        ),
    ];
    for (method, request, code, text, details) in rows {
        let answer = bench
            .ask(
                &format!("/dapr.proto.runtime.v1.Dapr/{method}"),
                &[],
                framed(request),
            )
            .await;
        let mut fields = answer.headers.clone();
        fields.extend(answer.trailers.clone());
        let status = Status::from_header_map(&fields).expect("a status");
        let details = details.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(failure(&status), (*code, (*text).to_owned(), details), "{method}");
        assert_eq!((answer.http, answer.messages.len()), (200, 0), "{method}");
    }
    let metrics = bench.metrics();
    let counted =
        r#"dapr_error_code_total{app_id="shop",category="state",error_code="ERR_STATE_STORE_NOT_FOUND"} 2"#;
    assert!(metrics.contains(counted), "{metrics}");
}

pub(super) fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), message].concat().into()
}

#[tokio::test]
async fn secrets_of_a_store() {
    let Bench { client, .. } = &mut Bench::new().await;
    let request = proto::GetSecretRequest {
        store_name: "v".to_owned(),
        key: "db".to_owned(),
        metadata: HashMap::from([("version".to_owned(), "2".to_owned())]),
    };
    let found = client.get_secret(request).await.unwrap().into_inner().data;
    assert_eq!(found, HashMap::from([("db".to_owned(), "hush2".to_owned())]));
    let request = proto::GetBulkSecretRequest {
        store_name: "v".to_owned(),
        ..Default::default()
    };
    let all = client.get_bulk_secret(request).await.unwrap().into_inner().data;
    assert_eq!(all["a"].secrets["a"], "hush");
}

#[tokio::test]
async fn metadata_and_shutdown() {
    let Bench {
        client, shutdowns, ..
    } = &mut Bench::new().await;
    let set = proto::SetMetadataRequest {
        key: "cliPID".to_owned(),
        value: "42".to_owned(),
    };
    client.set_metadata(set).await.unwrap();
    let found = client
        .get_metadata(proto::GetMetadataRequest {})
        .await
        .unwrap()
        .into_inner();
    let components: Vec<_> = found
        .registered_components
        .iter()
        .map(|it| (it.name.as_str(), it.r#type.as_str()))
        .collect();
    assert_eq!(
        components,
        [
            ("s", "state.in-memory"),
            ("p", "pubsub.in-memory"),
            ("v", "secretstores.fake"),
            ("c", "configuration.memory"),
            ("l", "lock.memory"),
            ("b", "bindings.fake")
        ]
    );
    assert_eq!(found.extended_metadata["cliPID"], "42");
    assert_eq!(found.extended_metadata["daprRuntimeVersion"], "1.18.3");
    assert_eq!(
        (found.id.as_str(), found.runtime_version.as_str()),
        ("shop", "1.18.3")
    );
    assert_eq!(
        found.actor_runtime.unwrap().runtime_status(),
        proto::actor_runtime::ActorRuntimeStatus::Disabled
    );
    assert!(found.app_connection_properties.is_some());

    for (value, how) in [
        ("true", Shutdown::Force),
        ("TRUE", Shutdown::Force),
        ("yes", Shutdown::Graceful),
    ] {
        let mut request = tonic::Request::new(proto::ShutdownRequest {});
        request
            .metadata_mut()
            .insert("dapr-force-shutdown", value.parse().unwrap());
        client.shutdown(request).await.unwrap();
        assert_eq!(std::mem::take(&mut *shutdowns.lock().unwrap()), [how], "{value}");
    }
    client.shutdown(proto::ShutdownRequest {}).await.unwrap();
    assert_eq!(*shutdowns.lock().unwrap(), [Shutdown::Graceful]);
}

#[test]
fn framing_of_tests_is_the_real_one() {
    let message = get("s", "k");
    assert_eq!(framed(&message.encode_to_vec()), wire::frame(&message));
}

#[tokio::test]
async fn bindings_answer_in_headers_too() {
    let Bench { client, .. } = &mut Bench::new().await;
    let request = |name: &str, data: &str| {
        let mut request = tonic::Request::new(proto::InvokeBindingRequest {
            name: name.to_owned(),
            data: Bytes::copy_from_slice(data.as_bytes()),
            metadata: HashMap::from([("own".to_owned(), "1".to_owned())]),
            operation: "create".to_owned(),
        });
        for (name, value) in [("own", "2"), ("dapr-more", "3"), ("baggage", "k=v")] {
            request.metadata_mut().insert(name, value.parse().unwrap());
        }
        request
    };
    let answer = client.invoke_binding(request("b", "word")).await.unwrap();
    let header = |name: &str| {
        let value = answer.metadata().get(name)?;
        value.to_str().ok()
    };
    assert_eq!(header("metadata.statuscode"), Some("404"));
    let said = answer.get_ref();
    assert_eq!(said.data, "word");
    let get = |name: &str| said.metadata.get(name).map(String::as_str);
    assert_eq!(
        [get("own"), get("dapr-more"), get("baggage"), get("content-type")],
        [Some("1"), Some("3"), Some("k=v"), Some("application/grpc")]
    );
    assert_eq!(
        get("traceparent"),
        Some("00-00000000000000000000000000000000-0000000000000000-00")
    );

    let failed = client.invoke_binding(request("b", "broken")).await.unwrap_err();
    let (code, text, details) = failure(&failed);
    assert_eq!(
        (code, text.as_str()),
        (Code::Internal, "error invoking output binding b: it is broken")
    );
    assert_eq!(details, ["ErrorInfo"]);
    assert_eq!(failed.metadata().get("metadata.statuscode").unwrap(), "404");
    let missing = client.invoke_binding(request("c", "")).await.unwrap_err();
    assert_eq!(
        missing.message(),
        "error invoking output binding c: couldn't find output binding c"
    );
}
