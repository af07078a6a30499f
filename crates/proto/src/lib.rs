//! Protobuf and gRPC types of every wire contract, generated from `proto/` by `cargo xtask codegen`.
//!
//! Modules mirror the protobuf packages, without the level named `proto`: package `dapr.proto.runtime.v1` is
//! [`dapr::runtime::v1`]. Payloads (`bytes` fields and [`any::Any`]) are [`bytes::Bytes`]: decoding a message
//! from a shared buffer does not copy them.
//!
//! Nothing here interprets a message; that is the business of the doors and channels.

#![allow(
    clippy::large_enum_variant,
    reason = "generated oneofs cannot box their variants"
)]

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

/// Between Outrigger's sidecars and its hub: no Dapr contract.
pub mod hub {
    pub mod v1 {
        include!("gen/outrigger.hub.v1.rs");
    }
}

/// The OpenTelemetry protocol, as far as exporting traces needs it.
pub mod opentelemetry {
    pub mod common {
        pub mod v1 {
            include!("gen/opentelemetry.proto.common.v1.rs");
        }
    }

    pub mod resource {
        pub mod v1 {
            include!("gen/opentelemetry.proto.resource.v1.rs");
        }
    }

    pub mod trace {
        pub mod v1 {
            include!("gen/opentelemetry.proto.trace.v1.rs");
        }
    }

    pub mod collector {
        pub mod trace {
            pub mod v1 {
                include!("gen/opentelemetry.proto.collector.trace.v1.rs");
            }
        }
    }
}

/// What Google's APIs have in common.
pub mod google {
    /// Details of an error.
    pub mod rpc {
        include!("gen/google.rpc.rs");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;
    use tonic::server::NamedService;

    use crate::dapr;
    use crate::dapr::internals::v1::service_invocation_server::ServiceInvocationServer;
    use crate::dapr::runtime::v1::app_callback_alpha_server::AppCallbackAlphaServer;
    use crate::dapr::runtime::v1::app_callback_health_check_server::AppCallbackHealthCheckServer;
    use crate::dapr::runtime::v1::app_callback_server::AppCallbackServer;
    use crate::dapr::runtime::v1::dapr_server::DaprServer;

    #[test]
    fn descriptors_are_closed_and_name_every_service() {
        let set = FileDescriptorSet::decode(dapr::DESCRIPTORS).unwrap();

        let files: BTreeSet<_> = set.file.iter().map(|file| file.name()).collect();
        for file in &set.file {
            for import in &file.dependency {
                assert!(
                    files.contains(import.as_str()),
                    "{} imports {import}, which is not there",
                    file.name()
                );
            }
        }

        let described: BTreeSet<_> = set
            .file
            .iter()
            .flat_map(|file| {
                file.service
                    .iter()
                    .map(|service| format!("{}.{}", file.package(), service.name()))
            })
            .collect();
        let served = BTreeSet::from([
            AppCallbackAlphaServer::<()>::NAME.to_owned(),
            AppCallbackHealthCheckServer::<()>::NAME.to_owned(),
            AppCallbackServer::<()>::NAME.to_owned(),
            DaprServer::<()>::NAME.to_owned(),
            ServiceInvocationServer::<()>::NAME.to_owned(),
        ]);
        assert_eq!(described, served);
    }
}
