use super::{all, bindings, common, configuration, invoke, lock, pubsub, secrets, state};
use crate::error::{ApiError, Detail};
use std::collections::BTreeMap;

/// What a client sees: tag, HTTP status, gRPC code, message, and the kinds of details in their order.
fn seen(error: &ApiError) -> (&'static str, u16, i32, &str, String) {
    let kinds: Vec<&str> = error
        .details
        .iter()
        .map(|detail| match detail {
            Detail::ErrorInfo { reason, .. } => reason.as_str(),
            Detail::ResourceInfo { .. } => "resource",
            Detail::BadRequest { .. } => "bad request",
            Detail::Help { .. } => "help",
        })
        .collect();
    let code = error.code;
    (code.tag, code.http, code.grpc, &error.message, kinds.join(", "))
}

#[test]
fn errors_are_what_clients_compare() {
    let info = BTreeMap::new;
    let cases = [
        (
            common::bad_request("x"),
            ("ERR_BAD_REQUEST", 400, 3, "invalid request: x", ""),
        ),
        (
            common::body_read("x"),
            ("ERR_BODY_READ", 400, 3, "failed to read request body: x", ""),
        ),
        (
            common::malformed_body("x"),
            (
                "ERR_MALFORMED_REQUEST",
                400,
                3,
                "failed deserializing HTTP body: x",
                "",
            ),
        ),
        (
            common::not_ready(&["app".into(), "grpc-api-server".into()]),
            (
                "ERR_HEALTH_NOT_READY",
                500,
                13,
                "dapr is not ready: [app grpc-api-server]",
                "",
            ),
        ),
        (
            common::outbound_not_ready(),
            (
                "ERR_OUTBOUND_HEALTH_NOT_READY",
                500,
                13,
                "dapr outbound is not ready",
                "",
            ),
        ),
        (
            common::app_id_mismatch(),
            (
                "ERR_HEALTH_APPID_NOT_MATCH",
                500,
                13,
                "dapr app-id does not match",
                "",
            ),
        ),
        (
            invoke::failed("b", "gone"),
            (
                "ERR_DIRECT_INVOKE",
                500,
                13,
                "failed to invoke, id: b, err: gone",
                "",
            ),
        ),
        (
            invoke::denied("b", "no"),
            (
                "ERR_DIRECT_INVOKE",
                403,
                13,
                "failed to invoke, id: b, err: no",
                "",
            ),
        ),
        (
            invoke::no_app_id(),
            (
                "ERR_DIRECT_INVOKE",
                404,
                5,
                "failed getting app id either from the URL path or the header dapr-app-id",
                "",
            ),
        ),
        (
            state::not_configured("s"),
            (
                "ERR_STATE_STORE_NOT_CONFIGURED",
                500,
                9,
                "state store s is not configured",
                "DAPR_STATE_NOT_CONFIGURED",
            ),
        ),
        (
            state::not_found("s"),
            (
                "ERR_STATE_STORE_NOT_FOUND",
                400,
                3,
                "state store s is not found",
                "DAPR_STATE_NOT_FOUND",
            ),
        ),
        (
            state::illegal_key("s", "a||b"),
            (
                "ERR_MALFORMED_REQUEST",
                400,
                3,
                "input key/keyPrefix 'a||b' can't contain '||'",
                "bad request, resource, DAPR_STATE_ILLEGAL_KEY",
            ),
        ),
        (
            state::get_failed("k", "s", "boom"),
            (
                "ERR_STATE_GET",
                500,
                13,
                "fail to get k from state store s: boom",
                "",
            ),
        ),
        (
            state::save_failed(&state::SAVE_ETAG_MISMATCH, "s", "boom"),
            (
                "ERR_STATE_SAVE",
                409,
                10,
                "failed saving state in state store s: boom",
                "",
            ),
        ),
        (
            state::delete_failed(&state::DELETE_ETAG_INVALID, "k", "boom"),
            (
                "ERR_STATE_DELETE",
                400,
                3,
                "failed deleting state with key k: boom",
                "",
            ),
        ),
        (
            state::transactions_unsupported("s"),
            (
                "ERR_STATE_STORE_NOT_SUPPORTED",
                500,
                12,
                "state store s doesn't support transactions",
                "help, resource, DAPR_STATE_TRANSACTIONS_NOT_SUPPORTED",
            ),
        ),
        (
            state::too_many_operations("s", 2, 1),
            (
                "ERR_STATE_STORE_TOO_MANY_TRANSACTIONS",
                400,
                3,
                "the transaction contains 2 operations, which is more than what the state store supports: 1",
                "resource, DAPR_STATE_TOO_MANY_TRANSACTIONS",
            ),
        ),
        (
            state::operation_unsupported("merge"),
            (
                "ERR_NOT_SUPPORTED_STATE_OPERATION",
                400,
                12,
                "operation type merge not supported",
                "",
            ),
        ),
        (
            state::query_unsupported("s"),
            (
                "ERR_STATE_STORE_NOT_SUPPORTED",
                500,
                13,
                "state store does not support querying",
                "resource, DAPR_STATE_QUERYING_NOT_SUPPORTED",
            ),
        ),
        (
            pubsub::not_found("p", info()),
            (
                "ERR_PUBSUB_NOT_FOUND",
                404,
                3,
                "pubsub p is not found",
                "DAPR_PUBSUB_NOT_FOUND",
            ),
        ),
        (
            pubsub::topic_empty("p", info()),
            (
                "ERR_TOPIC_NAME_EMPTY",
                404,
                3,
                "topic is empty in pubsub p",
                "resource, DAPR_PUBSUB_TOPIC_NAME_EMPTY",
            ),
        ),
        (
            pubsub::forbidden("p", "t", "a"),
            (
                "ERR_PUBSUB_FORBIDDEN",
                403,
                7,
                "topic t is not allowed for app id a",
                "resource, DAPR_PUBSUB_FORBIDDEN",
            ),
        ),
        (
            pubsub::topic_unknown("p", "t", "gone"),
            (
                "ERR_PUBSUB_NOT_FOUND",
                400,
                5,
                "pubsub 'p' not found",
                "resource, DAPR_PUBSUB_TEST_NOT_FOUND",
            ),
        ),
        (
            pubsub::publish_failed("p", "t", "gone"),
            (
                "ERR_PUBSUB_PUBLISH_MESSAGE",
                500,
                13,
                "error when publishing to topic t in pubsub p: gone",
                "resource, DAPR_PUBSUB_PUBLISH_MESSAGE",
            ),
        ),
        (
            secrets::denied("s", "k\"1"),
            (
                "ERR_PERMISSION_DENIED",
                403,
                7,
                r#"access denied by policy to get "k\"1" from "s""#,
                "",
            ),
        ),
        (
            secrets::not_found("s"),
            (
                "ERR_SECRET_STORE_NOT_FOUND",
                401,
                3,
                "failed finding secret store with key s",
                "",
            ),
        ),
        (
            bindings::failed("b", "couldn't find output binding b"),
            (
                "ERR_INVOKE_OUTPUT_BINDING",
                500,
                13,
                "error invoking output binding b: couldn't find output binding b",
                "",
            ),
        ),
        (
            configuration::not_configured(),
            (
                "ERR_CONFIGURATION_STORE_NOT_CONFIGURED",
                500,
                9,
                "configuration stores not configured",
                "",
            ),
        ),
        (
            configuration::not_found("c"),
            (
                "ERR_CONFIGURATION_STORE_NOT_FOUND",
                400,
                3,
                "configuration store c not found",
                "",
            ),
        ),
        (
            configuration::get_failed(&["a".into(), "b".into()], "c", "gone"),
            (
                "ERR_CONFIGURATION_GET",
                500,
                13,
                "failed to get [a b] from Configuration store c: gone",
                "",
            ),
        ),
        (
            configuration::subscribe_failed(&[], "c", "gone"),
            (
                "ERR_CONFIGURATION_SUBSCRIBE",
                500,
                3,
                "failed to subscribe [] from Configuration store c: gone",
                "",
            ),
        ),
        (
            lock::not_found("l"),
            ("ERR_LOCK_STORE_NOT_FOUND", 400, 3, "lock store l not found", ""),
        ),
        (
            lock::expiry_not_positive("l"),
            (
                "ERR_MALFORMED_REQUEST",
                400,
                3,
                "ExpiryInSeconds is not positive in lock store l",
                "",
            ),
        ),
        (
            lock::try_lock_failed("gone"),
            ("ERR_TRY_LOCK", 500, 13, "failed to try acquiring lock: gone", ""),
        ),
        (
            lock::unlock_failed("gone"),
            ("ERR_UNLOCK", 500, 13, "failed to release lock: gone", ""),
        ),
    ];
    for (error, (tag, http, grpc, message, details)) in cases {
        assert_eq!(seen(&error), (tag, http, grpc, message, details.to_owned()));
    }
}

#[test]
fn rows_are_complete_and_well_formed() {
    let mut count = 0;
    for code in all() {
        count += 1;
        assert!(code.tag.starts_with("ERR"), "{code:?}");
        assert!((400..600).contains(&code.http), "{code:?}");
        assert!((1..=16).contains(&code.grpc), "{code:?}");
        assert!(
            code.reason.is_empty() || code.reason.starts_with("DAPR_") || code.reason.starts_with("ERR"),
            "{code:?}"
        );
    }
    assert!(count > 40, "a table of rows is missing from `all`");
}
