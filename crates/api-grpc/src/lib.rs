//! gRPC door, public and sidecar-to-sidecar: messages to runtime calls.
