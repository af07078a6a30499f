//! Components that need no server: state and pub/sub in memory, secrets from the environment and from a file,
//! schedules and files as bindings, name resolution by DNS and by multicast DNS.
//!
//! INVARIANT: nothing is shared between two components, not even of the same type: each holds what it was built
//! with and no more. A process can host many sidecars.

pub mod bindings;
pub mod dns;
pub mod mdns;
pub mod middleware;
pub mod pubsub;
pub mod secrets;
pub mod state;

use middleware::{alias, check, rate, uppercase};
use outrigger_component::registry::Registry;
use secrets::environment::{Environment, Variables};

/// Adds `state.in-memory`, `pubsub.in-memory`, `secretstores.local.env`, `secretstores.local.file`,
/// `bindings.cron`, `bindings.localstorage`, the middlewares `http.routeralias`, `http.routerchecker`, `http.ratelimit` and
/// `http.uppercase`, `nameresolution.mdns`, `nameresolution.nameformat` and
/// `nameresolution.kubernetes`.
///
/// # Panics
/// When one of them is registered already.
pub fn register(registry: &mut Registry, environment: Environment) {
    registry
        .state("in-memory", state::Store::build)
        .options(&[state::OPTIONS]);
    registry
        .pubsub("in-memory", pubsub::Bus::build)
        .options(&[pubsub::OPTIONS]);
    registry
        .secret("local.env", move |setup| {
            let environment = environment.clone();
            async move { Ok(Variables::new(setup, environment)) }
        })
        .options(&[secrets::environment::OPTIONS]);
    registry
        .secret("local.file", secrets::file::Store::build)
        .options(&[secrets::file::OPTIONS]);
    registry
        .input_binding("cron", bindings::cron::Cron::build)
        .options(&[bindings::cron::OPTIONS]);
    registry
        .output_binding("localstorage", bindings::files::Files::build)
        .options(&[bindings::files::OPTIONS]);
    // Its metadata may be the routes themselves: any name is one.
    registry.middleware("http.routeralias", alias::Alias::build);
    registry
        .middleware("http.routerchecker", check::Check::build)
        .options(&[check::OPTIONS]);
    registry
        .middleware("http.ratelimit", rate::Rate::build)
        .options(&[rate::OPTIONS]);
    registry
        .middleware("http.uppercase", uppercase::Uppercase::build)
        .options(&[uppercase::OPTIONS]);
    registry.resolver("mdns", mdns::Resolver::start).options(&[]);
    registry
        .resolver("nameformat", dns::Resolver::formatted)
        .options(&[dns::FORMAT]);
    registry
        .resolver("kubernetes", dns::Resolver::kubernetes)
        .options(&[dns::KUBERNETES]);
}
