//! `spec.workflow`: how many workflows and activities run at once, and when finished ones are forgotten.

use super::tracing::optional_duration;
use serde::Deserialize;
use std::time::Duration;

/// Limits; `None` is unlimited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workflow {
    /// In this process.
    pub max_concurrent_workflows: Option<u32>,
    pub max_concurrent_activities: Option<u32>,
    /// Across all replicas.
    pub global_max_concurrent_workflows: Option<u32>,
    pub global_max_concurrent_activities: Option<u32>,
    /// Across all replicas, by workflow name.
    pub workflow_limits: Vec<Limit>,
    /// Across all replicas, by activity name.
    pub activity_limits: Vec<Limit>,
    pub retention: Retention,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Limit {
    pub name: String,
    pub max_concurrent: i32,
}

/// How long the state of a finished workflow is kept; `None` keeps it. A specific outcome wins over `any_terminal`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Retention {
    #[serde(deserialize_with = "optional_duration")]
    pub any_terminal: Option<Duration>,
    #[serde(deserialize_with = "optional_duration")]
    pub completed: Option<Duration>,
    #[serde(deserialize_with = "optional_duration")]
    pub failed: Option<Duration>,
    #[serde(deserialize_with = "optional_duration")]
    pub terminated: Option<Duration>,
}

/// The settings as written: zero and below are no limit.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    max_concurrent_workflow_invocations: i32,
    max_concurrent_activity_invocations: i32,
    global_max_concurrent_workflow_invocations: i32,
    global_max_concurrent_activity_invocations: i32,
    workflow_concurrency_limits: Vec<Limit>,
    activity_concurrency_limits: Vec<Limit>,
    state_retention_policy: Retention,
}

impl Spec {
    pub(super) fn into_workflow(self) -> Workflow {
        let limit = |count: i32| u32::try_from(count).ok().filter(|count| *count > 0);
        Workflow {
            max_concurrent_workflows: limit(self.max_concurrent_workflow_invocations),
            max_concurrent_activities: limit(self.max_concurrent_activity_invocations),
            global_max_concurrent_workflows: limit(self.global_max_concurrent_workflow_invocations),
            global_max_concurrent_activities: limit(self.global_max_concurrent_activity_invocations),
            workflow_limits: self.workflow_concurrency_limits,
            activity_limits: self.activity_concurrency_limits,
            retention: self.state_retention_policy,
        }
    }
}
