//! Tests that run the real executable, one module per subject.

mod docs;
