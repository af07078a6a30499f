//! What speaks HTTP to somebody: the HTTP binding, and the HTTP middlewares that ask for tokens or judge them.
//!
//! INVARIANT: answers of others are bounded in size and time; secrets (tokens, passwords) are never shown.

pub mod binding;
mod client;
pub mod middleware;

use middleware::{bearer, client_credentials, login};
use outrigger_component::registry::Registry;

/// Adds `bindings.http`, and the middlewares `http.bearer`, `http.oauth2` and `http.oauth2clientcredentials`.
///
/// # Panics
/// When one of them is registered already.
pub fn register(registry: &mut Registry) {
    registry
        .output_binding("http", binding::Http::build)
        .options(&[binding::OPTIONS]);
    registry
        .middleware("http.bearer", bearer::Bearer::build)
        .options(&[bearer::OPTIONS]);
    registry
        .middleware("http.oauth2", login::Login::build)
        .options(&[login::OPTIONS]);
    registry
        .middleware(
            "http.oauth2clientcredentials",
            client_credentials::ClientCredentials::build,
        )
        .options(&[client_credentials::OPTIONS]);
}
