//! What a component is built with.

use outrigger_component::metadata::Metadata;
use outrigger_component::resolver::Instance;
use outrigger_component::setup::Setup;

/// For component `test` of app `app` in namespace `default`, with this metadata; to be given to `Kind::build`.
pub fn setup(metadata: &[(&str, &str)]) -> Setup<Metadata> {
    let metadata: Metadata = metadata.iter().copied().collect();
    Setup {
        name: "test".to_owned(),
        app_id: "app".to_owned(),
        namespace: "default".to_owned(),
        config: metadata.clone(),
        metadata,
        log: crate::log::captured().0,
        instance: Instance {
            app_id: "app".to_owned(),
            namespace: "default".to_owned(),
            host: "127.0.0.1".to_owned(),
            near_host: "127.0.0.1".to_owned(),
            internal_port: 50002,
            http_port: 3500,
            grpc_port: 50001,
        },
    }
}
