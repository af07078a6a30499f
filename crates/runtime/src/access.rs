//! Who may call which method of this app: `spec.accessControl`, decided at the callee.
//!
//! Pure: rules and a question in, a [`Decision`] out. A caller is known by the SPIFFE id of its certificate; without one
//! (mTLS off) the default action of the whole list decides, whatever the caller says of itself. A policy belongs to one
//! app of one namespace and trust domain; where it has none for the caller, the list's default decides, else the policy's
//! own default and then the operation that the method matches, see [`paths`].
//!
//! COMPAT(pkg/acl/acl.go): the order of these steps, and texts.

pub mod paths;
#[cfg(test)]
mod tests;

use http::Method;
use outrigger_resources::configuration::access::{AccessControl, AppPolicy};
use paths::Paths;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

/// What an app may be asked to do, and by whom.
#[derive(Debug)]
pub struct Rules {
    default: Action,
    /// By app id, then by namespace.
    policies: HashMap<String, HashMap<String, Policy>>,
    /// Methods are compared without case, and verbs count.
    http: bool,
}

/// Who calls: `spiffe://<trust domain>/ns/<namespace>/<app id>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub trust_domain: String,
    pub namespace: String,
    pub app_id: String,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    /// Whether the caller's policy decided, and not the list's default.
    pub by_policy: bool,
}

/// Why there are no rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "invalid access control spec. missing trustdomain for apps: [{}], missing namespace for apps: [{}], missing app name on at least one of the app policies: {no_app}",
        .no_trust_domain.join(" "),
        .no_namespace.join(" ")
    )]
    Incomplete {
        no_trust_domain: Vec<String>,
        no_namespace: Vec<String>,
        no_app: bool,
    },
    #[error("malformed SPIFFE ID: {0}")]
    Identity(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Allow,
    Deny,
}

/// What one calling app may do.
#[derive(Debug)]
struct Policy {
    trust_domain: String,
    /// `None`: the list's.
    default: Option<Action>,
    operations: Paths<Operation>,
}

#[derive(Debug)]
struct Operation {
    action: Action,
    /// As written; `*` is every verb.
    verbs: Vec<String>,
}

impl Rules {
    /// `None` when everybody may do everything. `http` tells whether the app speaks HTTP.
    pub fn new(spec: &AccessControl, http: bool) -> Result<Option<Self>, Error> {
        let default = match spec.default_action.as_str() {
            // The safer one, once there are policies.
            "" if !spec.policies.is_empty() => Action::Deny,
            "" => Action::Allow,
            word => Action::of(word),
        };
        if spec.policies.is_empty() && default == Action::Allow {
            return Ok(None);
        }
        let names = |missing: fn(&AppPolicy) -> bool| {
            let missing = spec.policies.iter().filter(|policy| missing(policy));
            missing.map(|policy| policy.app.clone()).collect::<Vec<_>>()
        };
        let (no_trust_domain, no_namespace) = (
            names(|policy| policy.trust_domain.is_empty()),
            names(|policy| policy.namespace.is_empty()),
        );
        let no_app = spec.policies.iter().any(|policy| policy.app.is_empty());
        if no_app || !no_trust_domain.is_empty() || !no_namespace.is_empty() {
            return Err(Error::Incomplete {
                no_trust_domain,
                no_namespace,
                no_app,
            });
        }
        let mut policies: HashMap<String, HashMap<String, Policy>> = HashMap::new();
        for policy in &spec.policies {
            let of_app = policies.entry(policy.app.clone()).or_default();
            of_app.insert(policy.namespace.clone(), Policy::new(policy, http));
        }
        Ok(Some(Self {
            default,
            policies,
            http,
        }))
    }

    /// Whether the app speaks HTTP.
    pub fn is_http(&self) -> bool {
        self.http
    }

    /// Whether `caller` may call `method`, which must be [normalised](crate::invoke). `verb` is of no account for apps that
    /// speak gRPC.
    pub fn decide(&self, caller: Option<&Identity>, method: &str, verb: Option<&Method>) -> Decision {
        let policy = caller.and_then(|caller| {
            let policy = self.policies.get(&caller.app_id)?.get(&caller.namespace)?;
            (policy.trust_domain == caller.trust_domain).then_some(policy)
        });
        let Some(policy) = policy else {
            return Decision {
                allowed: self.default == Action::Allow,
                by_policy: false,
            };
        };
        let default = policy.default.unwrap_or(self.default);
        let action = match policy.operations.find(&operation(method, self.http)) {
            None => default,
            Some(operation) if !self.http => operation.action,
            Some(operation) => match verb {
                Some(verb) if operation.covers(verb) => operation.action,
                Some(_) => default,
                // Without a verb nothing but the policy's own default can be said.
                None => policy.default.unwrap_or(Action::Deny),
            },
        };
        Decision {
            allowed: action == Action::Allow,
            by_policy: policy.default.is_some(),
        }
    }
}

impl Policy {
    fn new(policy: &AppPolicy, http: bool) -> Self {
        let mut operations = Paths::default();
        for asked in &policy.operations {
            let rule = Operation {
                action: Action::of(&asked.action),
                verbs: asked.http_verbs.clone(),
            };
            operations.insert(&operation(&asked.name, http), rule);
        }
        Self {
            trust_domain: policy.trust_domain.clone(),
            default: (!policy.default_action.is_empty()).then(|| Action::of(&policy.default_action)),
            operations,
        }
    }
}

impl Operation {
    fn covers(&self, verb: &Method) -> bool {
        self.verbs
            .iter()
            .any(|known| known == "*" || known == verb.as_str())
    }
}

impl Action {
    /// Whatever is not `allow` denies.
    fn of(word: &str) -> Self {
        if word.eq_ignore_ascii_case("allow") {
            Self::Allow
        } else {
            Self::Deny
        }
    }
}

impl Identity {
    /// Segments beyond the fourth are left for later versions.
    pub fn parse(id: &str) -> Result<Self, Error> {
        let malformed = || Error::Identity(id.to_owned());
        let rest = id.strip_prefix("spiffe://").ok_or_else(malformed)?;
        let mut parts = rest.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(trust_domain), Some("ns"), Some(namespace), Some(app_id))
                if ![trust_domain, namespace, app_id].contains(&"") =>
            {
                Ok(Self {
                    trust_domain: trust_domain.to_owned(),
                    namespace: namespace.to_owned(),
                    app_id: app_id.to_owned(),
                })
            }
            _ => Err(malformed()),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "spiffe://{}/ns/{}/{}",
            self.trust_domain, self.namespace, self.app_id
        )
    }
}

/// A method as rules know it: a slash in front, and small letters for HTTP.
fn operation(method: &str, http: bool) -> Cow<'_, str> {
    let rooted = if method.starts_with('/') {
        Cow::Borrowed(method)
    } else {
        Cow::Owned(format!("/{method}"))
    };
    if http && rooted.chars().any(char::is_uppercase) {
        Cow::Owned(rooted.to_lowercase())
    } else {
        rooted
    }
}
