//! The use cases, one module per building block, with all policy.
