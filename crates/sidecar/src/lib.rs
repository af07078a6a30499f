//! Composition root of daprd: flags and environment to Config to Bound to run to drain; links no vendor.
