//! The endpoints of the API: what logs call them, and the groups that the Configuration allows or denies.
//!
//! COMPAT(pkg/api/http, the `construct…Endpoints` functions): groups, versions and names.

/// What a request is about. Invocation is last: it also takes what nothing else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Endpoint {
    GetState,
    SaveState,
    DeleteState,
    GetBulkState,
    ExecuteStateTransaction,
    QueryState,
    GetSecret,
    GetBulkSecret,
    PublishEvent,
    BulkPublishEvent,
    GetMetadata,
    PutMetadata,
    Shutdown,
    Healthz,
    HealthzOutbound,
    InvokeBinding,
    GetConfiguration,
    SubscribeConfiguration,
    UnsubscribeConfiguration,
    TryLock,
    Unlock,
    Encrypt,
    Decrypt,
    Converse,
    ScheduleJob,
    DeleteJob,
    GetJob,
    ExecuteActorStateTransaction,
    GetActorState,
    InvokeActor,
    RegisterActorReminder,
    UnregisterActorReminder,
    GetActorReminder,
    RegisterActorTimer,
    UnregisterActorTimer,
    GetWorkflow,
    RaiseEventWorkflow,
    StartWorkflow,
    PauseWorkflow,
    ResumeWorkflow,
    TerminateWorkflow,
    PurgeWorkflow,
    InvokeService,
}

/// A version of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Version {
    V1,
    Alpha1,
    Alpha2,
    Beta1,
}

impl Version {
    pub(crate) const ALL: [Self; 4] = [Self::V1, Self::Alpha1, Self::Alpha2, Self::Beta1];

    /// As the first segment of a path.
    pub(crate) fn segment(self) -> &'static str {
        match self {
            Self::V1 => "v1.0",
            Self::Alpha1 => "v1.0-alpha1",
            Self::Alpha2 => "v1.0-alpha2",
            Self::Beta1 => "v1.0-beta1",
        }
    }

    /// As access rules spell it.
    fn group(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::Alpha1 => "v1alpha1",
            Self::Alpha2 => "v1alpha2",
            Self::Beta1 => "v1beta1",
        }
    }

    pub(crate) fn of(segment: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.segment() == segment)
    }
}

struct About {
    endpoint: Endpoint,
    group: &'static str,
    /// As the access log has it.
    name: &'static str,
    /// What follows the version in the path, for access rules that name a prefix of a path.
    route: &'static str,
}

const fn about(endpoint: Endpoint, group: &'static str, name: &'static str, route: &'static str) -> About {
    About {
        endpoint,
        group,
        name,
        route,
    }
}

/// One row per endpoint, in their order.
#[rustfmt::skip]
static TABLE: &[About] = &[
    about(Endpoint::GetState, "state", "GetState", "state/{storeName}/{key}"),
    about(Endpoint::SaveState, "state", "SaveState", "state/{storeName}"),
    about(Endpoint::DeleteState, "state", "DeleteState", "state/{storeName}/{key}"),
    about(Endpoint::GetBulkState, "state", "GetBulkState", "state/{storeName}/bulk"),
    about(Endpoint::ExecuteStateTransaction, "state", "ExecuteStateTransaction", "state/{storeName}/transaction"),
    about(Endpoint::QueryState, "state", "QueryStateAlpha1", "state/{storeName}/query"),
    about(Endpoint::GetSecret, "secrets", "GetSecret", "secrets/{secretStoreName}/{key}"),
    about(Endpoint::GetBulkSecret, "secrets", "GetBulkSecret", "secrets/{secretStoreName}/bulk"),
    about(Endpoint::PublishEvent, "publish", "PublishEvent", "publish/{pubsubname}/*"),
    about(Endpoint::BulkPublishEvent, "publish", "BulkPublishEvent", "publish/bulk/{pubsubname}/*"),
    about(Endpoint::GetMetadata, "metadata", "GetMetadata", "metadata"),
    about(Endpoint::PutMetadata, "metadata", "PutMetadata", "metadata/{key}"),
    about(Endpoint::Shutdown, "shutdown", "Shutdown", "shutdown"),
    about(Endpoint::Healthz, "healthz", "Healthz", "healthz"),
    about(Endpoint::HealthzOutbound, "healthz", "HealthzOutbound", "healthz/outbound"),
    about(Endpoint::InvokeBinding, "bindings", "InvokeBinding", "bindings/{name}"),
    about(Endpoint::GetConfiguration, "configuration", "GetConfiguration", "configuration/{storeName}"),
    about(Endpoint::SubscribeConfiguration, "configuration", "SubscribeConfiguration", "configuration/{storeName}/subscribe"),
    about(Endpoint::UnsubscribeConfiguration, "configuration", "UnsubscribeConfiguration", "configuration/{storeName}/{configurationSubscribeID}/unsubscribe"),
    about(Endpoint::TryLock, "lock", "TryLock", "lock/{storeName}"),
    about(Endpoint::Unlock, "unlock", "Unlock", "unlock/{storeName}"),
    about(Endpoint::Encrypt, "crypto", "Encrypt", "crypto/{name}/encrypt"),
    about(Endpoint::Decrypt, "crypto", "Decrypt", "crypto/{name}/decrypt"),
    about(Endpoint::Converse, "conversation", "Converse", "conversation/{name}/converse"),
    about(Endpoint::ScheduleJob, "jobs", "ScheduleJob", "jobs/{name}"),
    about(Endpoint::DeleteJob, "jobs", "DeleteJob", "jobs/{name}"),
    about(Endpoint::GetJob, "jobs", "GetJob", "jobs/{name}"),
    about(Endpoint::ExecuteActorStateTransaction, "actors", "ExecuteActorStateTransaction", "actors/{actorType}/{actorId}/state"),
    about(Endpoint::GetActorState, "actors", "GetActorState", "actors/{actorType}/{actorId}/state/{key}"),
    about(Endpoint::InvokeActor, "actors", "InvokeActor", "actors/{actorType}/{actorId}/method/{method}"),
    about(Endpoint::RegisterActorReminder, "actors", "RegisterActorReminder", "actors/{actorType}/{actorId}/reminders/{name}"),
    about(Endpoint::UnregisterActorReminder, "actors", "UnregisterActorReminder", "actors/{actorType}/{actorId}/reminders/{name}"),
    about(Endpoint::GetActorReminder, "actors", "GetActorReminder", "actors/{actorType}/{actorId}/reminders/{name}"),
    about(Endpoint::RegisterActorTimer, "actors", "RegisterActorTimer", "actors/{actorType}/{actorId}/timers/{name}"),
    about(Endpoint::UnregisterActorTimer, "actors", "UnregisterActorTimer", "actors/{actorType}/{actorId}/timers/{name}"),
    about(Endpoint::GetWorkflow, "workflows", "GetWorkflow", "workflows/{workflowComponent}/{instanceID}"),
    about(Endpoint::RaiseEventWorkflow, "workflows", "RaiseEventWorkflow", "workflows/{workflowComponent}/{instanceID}/raiseEvent/{eventName}"),
    about(Endpoint::StartWorkflow, "workflows", "StartWorkflow", "workflows/{workflowComponent}/{workflowName}/start"),
    about(Endpoint::PauseWorkflow, "workflows", "PauseWorkflow", "workflows/{workflowComponent}/{instanceID}/pause"),
    about(Endpoint::ResumeWorkflow, "workflows", "ResumeWorkflow", "workflows/{workflowComponent}/{instanceID}/resume"),
    about(Endpoint::TerminateWorkflow, "workflows", "TerminateWorkflow", "workflows/{workflowComponent}/{instanceID}/terminate"),
    about(Endpoint::PurgeWorkflow, "workflows", "PurgeWorkflow", "workflows/{workflowComponent}/{instanceID}/purge"),
    about(Endpoint::InvokeService, "invoke", "InvokeService", "invoke/*"),
];

impl Endpoint {
    /// As the access log has it when URLs are not to be shown.
    pub(crate) fn name(self) -> &'static str {
        self.about().name
    }

    pub(crate) fn group(self) -> &'static str {
        self.about().group
    }

    pub(crate) fn is_health_check(self) -> bool {
        matches!(self, Self::Healthz | Self::HealthzOutbound)
    }

    fn about(self) -> &'static About {
        &TABLE[self as usize]
    }
}

/// `spec.api`: which endpoints exist. Each rule is a version and the name of a group.
///
/// COMPAT(pkg/api/http/endpoints/endpoint.go): a rule may also be a prefix of a path, cut at its first slash.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Per version, one bit per endpoint.
    exists: [u64; Version::ALL.len()],
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            exists: [u64::MAX; Version::ALL.len()],
        }
    }
}

impl Filter {
    /// Rules for HTTP. No `allowed` rule allows everything; `denied` wins. Health checks always exist.
    pub fn new<'r>(
        allowed: impl IntoIterator<Item = (&'r str, &'r str)>,
        denied: impl IntoIterator<Item = (&'r str, &'r str)>,
    ) -> Self {
        let keys = |(version, name): (&str, &str)| format!("{version}/{name}");
        let allowed: Vec<String> = allowed.into_iter().map(keys).collect();
        let denied: Vec<String> = denied.into_iter().map(keys).collect();
        let matches = |rules: &[String], version: Version, about: &About| {
            let group = format!("{}/{}", version.group(), about.group);
            let path = format!("{}/{}", version.segment(), about.route);
            rules
                .iter()
                .any(|rule| *rule == group || path.starts_with(rule.as_str()))
        };
        let exists = Version::ALL.map(|version| {
            TABLE
                .iter()
                .filter(|about| {
                    about.endpoint.is_health_check()
                        || (!matches(&denied, version, about)
                            && (allowed.is_empty() || matches(&allowed, version, about)))
                })
                .fold(0, |bits, about| bits | bit(about.endpoint))
        });
        Self { exists }
    }

    pub(crate) fn has(&self, version: Version, endpoint: Endpoint) -> bool {
        self.exists[version as usize] & bit(endpoint) != 0
    }
}

fn bit(endpoint: Endpoint) -> u64 {
    1 << endpoint as u8
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, Filter, TABLE, Version};

    #[test]
    fn rows_stand_in_the_order_of_the_endpoints() {
        for (row, about) in TABLE.iter().enumerate() {
            assert_eq!(about.endpoint as usize, row, "{}", about.name);
        }
        assert_eq!(TABLE.len(), Endpoint::InvokeService as usize + 1);
        assert!(TABLE.len() <= 64, "one bit each");
    }

    #[test]
    fn rules() {
        type Rules<'r> = &'r [(&'r str, &'r str)];
        let cases: &[(Rules<'_>, Rules<'_>, Version, Endpoint, bool)] = &[
            (&[], &[], Version::V1, Endpoint::GetState, true),
            (&[("v1", "state")], &[], Version::V1, Endpoint::GetState, true),
            (
                &[("v1", "state")],
                &[],
                Version::Alpha1,
                Endpoint::QueryState,
                false,
            ),
            (
                &[("v1alpha1", "state")],
                &[],
                Version::Alpha1,
                Endpoint::QueryState,
                true,
            ),
            (
                &[("v1", "state")],
                &[],
                Version::V1,
                Endpoint::InvokeService,
                false,
            ),
            (&[("v1", "state")], &[], Version::V1, Endpoint::Healthz, true),
            (
                &[],
                &[("v1", "healthz")],
                Version::V1,
                Endpoint::HealthzOutbound,
                true,
            ),
            (
                &[],
                &[("v1", "state")],
                Version::V1,
                Endpoint::GetBulkState,
                false,
            ),
            (
                &[("v1", "state")],
                &[("v1", "state")],
                Version::V1,
                Endpoint::SaveState,
                false,
            ),
            (&[("v1.0", "state")], &[], Version::V1, Endpoint::SaveState, true),
            (&[("v1.0", "pub")], &[], Version::V1, Endpoint::PublishEvent, true),
            (
                &[("v1.0", "publish/bulk")],
                &[],
                Version::V1,
                Endpoint::PublishEvent,
                false,
            ),
            (&[("v1", "pub")], &[], Version::V1, Endpoint::PublishEvent, false),
        ];
        for (allowed, denied, version, endpoint, exists) in cases {
            let filter = Filter::new(allowed.iter().copied(), denied.iter().copied());
            assert_eq!(
                filter.has(*version, *endpoint),
                *exists,
                "{allowed:?} {denied:?} {endpoint:?}"
            );
        }
        assert!(Filter::default().has(Version::V1, Endpoint::InvokeService));
    }
}
