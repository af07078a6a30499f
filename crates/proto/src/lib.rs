//! Protobuf and gRPC types of every wire contract, generated from `proto/`.
