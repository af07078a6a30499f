//! Every public error code: one row each. The pairs of HTTP status and gRPC code follow no rule in the
//! reference, so both stand in the row.

/// The building block that an error is counted under in `dapr_error_code_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    Common,
    Invocation,
    State,
    Pubsub,
    Secret,
    Binding,
    Configuration,
    Lock,
    Health,
}

/// One public error code.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// `errorCode` of the JSON body.
    pub tag: &'static str,
    /// `reason` of the gRPC ErrorInfo; empty where the reference attaches none.
    pub reason: &'static str,
    /// HTTP status.
    pub http: u16,
    /// gRPC status code.
    pub grpc: i32,
    pub category: Category,
}
