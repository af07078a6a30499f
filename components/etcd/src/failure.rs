//! From gRPC's failures to ours.

use outrigger_component::error::{Error, Kind};
use outrigger_daemon::tls;
use std::error::Error as StdError;
use tonic::{Code, ConnectError, Status};

/// `what` begins the sentence.
pub(crate) fn failure(what: &str, status: &Status) -> Error {
    let hint = match status.code() {
        Code::ResourceExhausted if status.message().contains("database space exceeded") => {
            " (compact, defragment and disarm it: etcdctl compact, defrag, alarm disarm; or raise --quota-backend-bytes)"
        }
        _ => "",
    };
    Error::new(kind(status), format!("{what}: {}{hint}", cause(status)))
}

/// Whether another member, or the same one a little later, may do it.
pub(crate) fn is_passing(status: &Status) -> bool {
    matches!(kind(status), Kind::Unavailable)
}

/// Whether the request certainly never reached a server.
pub(crate) fn is_unsent(status: &Status) -> bool {
    causes(status).any(|cause| cause.is::<ConnectError>())
}

/// Whether the server wants us to log in, for the first time or again.
pub(crate) fn wants_login(status: &Status) -> bool {
    status.code() == Code::Unauthenticated
        || (status.code() == Code::InvalidArgument && status.message().contains("user name is empty"))
}

fn kind(status: &Status) -> Kind {
    match status.code() {
        // Not from the server: the transport failed.
        _ if causes(status).next().is_some() => Kind::Unavailable,
        Code::Unavailable | Code::Cancelled => Kind::Unavailable,
        Code::DeadlineExceeded => Kind::Timeout,
        Code::Unauthenticated | Code::PermissionDenied => Kind::PermissionDenied,
        Code::InvalidArgument
            if ["authentication failed", "user name is empty"]
                .iter()
                .any(|text| status.message().contains(text)) =>
        {
            Kind::PermissionDenied
        }
        Code::InvalidArgument | Code::OutOfRange => Kind::Invalid,
        Code::ResourceExhausted => Kind::Exhausted,
        _ => Kind::Internal,
    }
}

/// The innermost cause: the outer ones say only that the transport failed.
fn cause(status: &Status) -> String {
    tls::refusal(status)
        .or_else(|| causes(status).last().map(ToString::to_string))
        .unwrap_or_else(|| status.message().to_owned())
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let mut next = status.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}
