//! Protobuf and gRPC types of every wire contract, generated from `proto/` by `cargo xtask codegen`.
//!
//! Modules mirror the protobuf packages, without the level named `proto`: package `dapr.proto.runtime.v1` is
//! [`dapr::runtime::v1`]. Payloads (`bytes` fields and [`any::Any`]) are [`bytes::Bytes`]: decoding a message
//! from a shared buffer does not copy them.
//!
//! Nothing here interprets a message; that is the business of the doors and channels.

pub mod any;
mod redact;

/// Contracts shared with Dapr's SDKs and sidecars.
pub mod dapr {
    /// Messages used by several of the other packages.
    pub mod common {
        pub mod v1 {
            include!("gen/dapr.proto.common.v1.rs");
        }
    }

    /// Between an app and its sidecar, in both directions.
    pub mod runtime {
        pub mod v1 {
            include!("gen/dapr.proto.runtime.v1.rs");
        }
    }

    /// Between sidecars.
    pub mod internals {
        pub mod v1 {
            include!("gen/dapr.proto.internals.v1.rs");
        }
    }

    /// Encoded `FileDescriptorSet` of the packages in this module and all they import, for gRPC reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!("gen/dapr.fds.bin");
}
