//! In-process cluster harness, wire tests, parity tests.
