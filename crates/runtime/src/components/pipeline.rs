//! From the handlers that the Configuration names to a pipeline of loaded middlewares.

use super::snapshot::Snapshot;
use outrigger_component::middleware::Pipeline;
use outrigger_daemon::log::Log;
use outrigger_resources::configuration::Handler;

/// In the order of the Configuration. `None` when nothing is left to do. `which` is for the log (`server`, `app`).
///
/// COMPAT(pkg/middleware/http/pipeline.go): a handler without its component is left out. Unlike there, a warning says so:
/// requests pass without it, whatever it was there for.
pub fn pipeline(snapshot: &Snapshot, handlers: &[Handler], which: &str, log: &Log) -> Option<Pipeline> {
    if handlers.is_empty() {
        return None;
    }
    log.info(format_args!("Building pipeline {which}"));
    let found = handlers.iter().filter_map(|handler| {
        let middleware = snapshot.middleware(&handler.name).filter(|it| {
            it.kind.eq_ignore_ascii_case(&handler.kind) && version(&it.version) == version(&handler.version)
        });
        if middleware.is_none() {
            log.warn(format_args!(
                "pipeline {which}: the middleware {} is not loaded, and requests pass without it",
                handler.log_name()
            ));
        }
        middleware.map(|it| it.handler.clone())
    });
    Pipeline::new(found.collect())
}

fn version(text: &str) -> String {
    if text.is_empty() {
        "v1".to_owned()
    } else {
        text.to_lowercase()
    }
}

#[cfg(test)]
mod tests {
    use super::pipeline;
    use crate::components::Components;
    use crate::fakes::{Bench, document};
    use outrigger_resources::configuration::Handler;

    #[tokio::test]
    async fn only_what_is_loaded() {
        let handler = |name: &str, kind: &str, version: &str| Handler {
            name: name.to_owned(),
            kind: kind.to_owned(),
            version: version.to_owned(),
            ..Handler::default()
        };
        let kind = "middleware.http.fake";
        let cases: [(&[Handler], bool, bool); 6] = [
            (&[], false, false),
            (&[handler("m", kind, "")], true, false),
            (&[handler("m", kind, "V1"), handler("n", kind, "v1")], true, true),
            (&[handler("n", kind, "")], false, true),
            (&[handler("m", "middleware.http.other", "")], false, true),
            (&[handler("m", kind, "v2")], false, true),
        ];
        for (handlers, built, warned) in cases {
            let bench = Bench::new();
            let documents = vec![document("m", kind, &[])];
            let components = Components::load(&bench.settings(), documents).await.unwrap();
            let found = pipeline(&components.live().now(), handlers, "server", &bench.log);
            assert_eq!(found.is_some(), built, "{handlers:?}");
            let log = bench.logged();
            assert_eq!(log.contains("requests pass without it"), warned, "{log}");
        }
    }
}
