//! Building blocks that this version does not have. Their routes exist, so that nobody takes a missing feature for a
//! wrong address.

use crate::endpoint::Endpoint;
use outrigger_runtime::catalogue::common;
use outrigger_runtime::error::ApiError;

pub(crate) fn error(endpoint: Endpoint) -> ApiError {
    match endpoint.group() {
        "crypto" => common::unimplemented("the cryptography API"),
        other => common::unimplemented(&format!("the {other} API")),
    }
}

#[cfg(test)]
mod tests {
    use super::error;
    use crate::endpoint::Endpoint;

    #[test]
    fn each_says_what_is_missing() {
        for (endpoint, tag, text) in [
            (
                Endpoint::Encrypt,
                "ERR_API_UNIMPLEMENTED",
                "the cryptography API is not available",
            ),
            (
                Endpoint::InvokeActor,
                "ERR_API_UNIMPLEMENTED",
                "the actors API is not available",
            ),
            (
                Endpoint::StartWorkflow,
                "ERR_API_UNIMPLEMENTED",
                "the workflows API is not available",
            ),
            (
                Endpoint::GetJob,
                "ERR_API_UNIMPLEMENTED",
                "the jobs API is not available",
            ),
            (
                Endpoint::Converse,
                "ERR_API_UNIMPLEMENTED",
                "the conversation API is not available",
            ),
        ] {
            let error = error(endpoint);
            assert_eq!(error.code.tag, tag);
            assert!(error.message.contains(text), "{}", error.message);
        }
    }
}
