//! `spec.api`: which methods exist.
//!
//! COMPAT(pkg/api/grpc/endpoints.go): the groups; rules that name no group are skipped, and a filter that is left without
//! any is none. Methods of other services are never filtered, or proxying would suffer.

use std::collections::BTreeSet;

/// The services that rules are about.
pub(crate) const FILTERED: &str = "/dapr.proto.runtime.";
const DAPR: &str = "v1.Dapr/";

/// Rules for gRPC. No `allowed` rule allows everything; `denied` wins.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    allowed: BTreeSet<&'static str>,
    denied: BTreeSet<&'static str>,
}

impl Filter {
    /// Rules are pairs of version and group name, those of protocol `grpc` only.
    pub fn new<'r>(
        allowed: impl IntoIterator<Item = (&'r str, &'r str)>,
        denied: impl IntoIterator<Item = (&'r str, &'r str)>,
    ) -> Self {
        Self {
            allowed: methods(allowed),
            denied: methods(denied),
        }
    }

    /// `path` is the full method, with its leading slash.
    pub(crate) fn has(&self, path: &str) -> bool {
        let Some(method) = path.strip_prefix(FILTERED) else {
            return true;
        };
        let method = method.strip_prefix(DAPR).unwrap_or_default();
        !self.denied.contains(method) && (self.allowed.is_empty() || self.allowed.contains(method))
    }
}

fn methods<'r>(rules: impl IntoIterator<Item = (&'r str, &'r str)>) -> BTreeSet<&'static str> {
    let group = |(version, name)| {
        GROUPS
            .iter()
            .filter(move |group| group.name == name && group.version == version)
    };
    rules
        .into_iter()
        .flat_map(group)
        .flat_map(|group| group.methods)
        .copied()
        .collect()
}

struct Group {
    name: &'static str,
    version: &'static str,
    methods: &'static [&'static str],
}

const fn group(name: &'static str, version: &'static str, methods: &'static [&'static str]) -> Group {
    Group {
        name,
        version,
        methods,
    }
}

#[rustfmt::skip]
static GROUPS: &[Group] = &[
    group("invoke", "v1", &["InvokeService"]),
    group("state", "v1", &[
        "GetState", "GetBulkState", "SaveState", "DeleteState", "DeleteBulkState", "ExecuteStateTransaction",
    ]),
    group("state", "v1alpha1", &["QueryStateAlpha1"]),
    group("publish", "v1", &["PublishEvent", "BulkPublishEvent"]),
    group("publish", "v1alpha1", &["BulkPublishEventAlpha1"]),
    group("subscribe", "v1alpha1", &["SubscribeTopicEventsAlpha1"]),
    group("bindings", "v1", &["InvokeBinding"]),
    group("secrets", "v1", &["GetSecret", "GetBulkSecret"]),
    group("metadata", "v1", &["GetMetadata", "SetMetadata"]),
    group("shutdown", "v1", &["Shutdown"]),
    group("configuration", "v1", &["GetConfiguration", "SubscribeConfiguration", "UnsubscribeConfiguration"]),
    group("configuration", "v1alpha1", &[
        "GetConfigurationAlpha1", "SubscribeConfigurationAlpha1", "UnsubscribeConfigurationAlpha1",
    ]),
    group("lock", "v1alpha1", &["TryLockAlpha1"]),
    group("unlock", "v1alpha1", &["UnlockAlpha1"]),
    group("actors", "v1", &[
        "RegisterActorTimer", "UnregisterActorTimer", "RegisterActorReminder", "GetActorReminder",
        "UnregisterActorReminder", "UnregisterActorRemindersByType", "ListActorReminders", "GetActorState",
        "ExecuteActorStateTransaction", "InvokeActor",
    ]),
    group("actors", "v1alpha1", &["SubscribeActorEventsAlpha1"]),
    group("crypto", "v1alpha1", &["EncryptAlpha1", "DecryptAlpha1"]),
    group("subtlecrypto", "v1alpha1", &[
        "SubtleGetKeyAlpha1", "SubtleEncryptAlpha1", "SubtleDecryptAlpha1", "SubtleSignAlpha1", "SubtleVerifyAlpha1",
        "SubtleWrapKeyAlpha1", "SubtleUnwrapKeyAlpha1",
    ]),
    group("workflows", "v1alpha1", &[
        "StartWorkflowAlpha1", "GetWorkflowAlpha1", "TerminateWorkflowAlpha1", "RaiseEventWorkflowAlpha1",
        "PurgeWorkflowAlpha1", "PauseWorkflowAlpha1", "ResumeWorkflowAlpha1",
    ]),
    group("workflows", "v1beta1", &[
        "StartWorkflowBeta1", "GetWorkflowBeta1", "TerminateWorkflowBeta1", "RaiseEventWorkflowBeta1",
        "PurgeWorkflowBeta1", "PauseWorkflowBeta1", "ResumeWorkflowBeta1",
    ]),
    group("jobs", "v1", &["ScheduleJob", "DeleteJob", "GetJob", "DeleteJobsByPrefix", "ListJobs"]),
    group("jobs", "v1alpha1", &[
        "ScheduleJobAlpha1", "DeleteJobAlpha1", "GetJobAlpha1", "DeleteJobsByPrefixAlpha1", "ListJobsAlpha1",
    ]),
    group("conversation", "v1alpha1", &["ConverseAlpha1"]),
    group("conversation", "v1alpha2", &["ConverseAlpha2"]),
];

#[cfg(test)]
mod tests {
    use super::Filter;

    #[test]
    fn rules() {
        type Rules<'r> = &'r [(&'r str, &'r str)];
        let cases: &[(Rules<'_>, Rules<'_>, &str, bool)] = &[
            (&[], &[], "/dapr.proto.runtime.v1.Dapr/GetState", true),
            (
                &[("v1", "state")],
                &[],
                "/dapr.proto.runtime.v1.Dapr/GetState",
                true,
            ),
            (
                &[("v1", "state")],
                &[],
                "/dapr.proto.runtime.v1.Dapr/QueryStateAlpha1",
                false,
            ),
            (
                &[("v1alpha1", "state")],
                &[],
                "/dapr.proto.runtime.v1.Dapr/QueryStateAlpha1",
                true,
            ),
            (
                &[("v1", "state")],
                &[],
                "/dapr.proto.runtime.v1.Dapr/PublishEvent",
                false,
            ),
            (
                &[("v1", "state")],
                &[],
                "/dapr.proto.runtime.v1.Dapr/NoSuchThing",
                false,
            ),
            (
                &[("v1", "state")],
                &[],
                "/dapr.proto.runtime.v2.Dapr/GetState",
                false,
            ),
            (&[("v1", "state")], &[], "/shop.Orders/GetState", true),
            (
                &[],
                &[("v1", "state")],
                "/dapr.proto.runtime.v1.Dapr/GetState",
                false,
            ),
            (
                &[],
                &[("v1", "state")],
                "/dapr.proto.runtime.v1.Dapr/PublishEvent",
                true,
            ),
            (
                &[("v1", "state")],
                &[("v1", "state")],
                "/dapr.proto.runtime.v1.Dapr/GetState",
                false,
            ),
            (
                &[("v1", "nonsense")],
                &[],
                "/dapr.proto.runtime.v1.Dapr/GetState",
                true,
            ),
        ];
        for (allowed, denied, path, exists) in cases {
            let filter = Filter::new(allowed.iter().copied(), denied.iter().copied());
            assert_eq!(filter.has(path), *exists, "{allowed:?} {denied:?} {path}");
        }
    }
}
