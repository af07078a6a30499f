//! `runtime/component/…` and `error_code/total`: loading components, and errors that callers saw.
//!
//! COMPAT(pkg/diagnostics/service_monitoring.go, errorcode_monitoring.go): names, help texts and labels.

use super::{Counter, Family, Label, Registry};

/// Families of component loading.
pub struct Loading {
    loaded: Family<Counter, 0>,
    initialised: Family<Counter, 1>,
    failed: Family<Counter, 3>,
}

/// The family of public error codes. Exists only where `recordErrorCodes` is on.
pub struct Errors {
    total: Family<Counter, 2>,
}

/// The `component` label of these families is a type, such as `state.redis`.
const TYPE: Label = Label::open("component");

impl Loading {
    pub fn new(registry: &Registry) -> Self {
        Self {
            loaded: registry.counter(
                "runtime/component/loaded",
                "The number of successfully loaded components.",
                [],
            ),
            initialised: registry.counter(
                "runtime/component/init_total",
                "The number of initialized components.",
                [TYPE],
            ),
            failed: registry.counter(
                "runtime/component/init_fail_total",
                "The number of component initialization failures.",
                [TYPE, Label::open("componentName"), Label::closed("reason")],
            ),
        }
    }

    /// A component is in use from now on.
    pub fn loaded(&self) {
        self.loaded.with([]).increment();
    }

    /// A component of this type (`state.redis`) was set up.
    pub fn initialised(&self, kind: &str) {
        self.initialised.with([kind]).increment();
    }

    /// A component could not be set up; `reason` is `creation` or `init`.
    pub fn failed(&self, kind: &str, name: &str, reason: &'static str) {
        self.failed.with([kind, name, reason]).increment();
    }
}

impl Errors {
    pub fn new(registry: &Registry) -> Self {
        Self {
            total: registry.counter(
                "error_code/total",
                "Total number of times an error with a specific error code was encountered.",
                [Label::closed("category"), Label::closed("error_code")],
            ),
        }
    }

    /// An error was answered with this public code.
    pub fn answered(&self, code: &str, category: &str) {
        self.total.with([category, code]).increment();
    }
}
