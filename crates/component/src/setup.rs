//! Everything a component gets when it is built: no globals, no environment.

use crate::metadata::Metadata;
use crate::resolver::Instance;
use outrigger_daemon::log::Log;

/// `config` is the vendor's typed metadata, already decoded: a typo never reaches vendor code.
#[derive(Debug, Clone)]
pub struct Setup<C> {
    /// Name of the component resource.
    pub name: String,
    pub app_id: String,
    /// Namespace of this sidecar, `default` unless `NAMESPACE` is set.
    pub namespace: String,
    pub config: C,
    /// The same as text, for what is passed through to a client library.
    pub metadata: Metadata,
    /// Scope `dapr.contrib`, as the reference logs for components.
    pub log: Log,
    /// This sidecar, as others find it.
    pub instance: Instance,
}
