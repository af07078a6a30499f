//! Which version we are, and which version of the reference we speak like.

/// Version of this program: what `outrigger --version` prints.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Version that the metadata API reports as the runtime version, and the `ver` of log lines.
///
/// SDKs compare it to decide what they may call, so it names the release whose contracts we keep.
/// COMPAT(tests/integration/suite/daprd/metadata): must match `^(edge|\d+\.\d+\.\d+(-rc\.\d+)?)$`.
pub const COMPAT_VERSION: &str = "1.18.3";
