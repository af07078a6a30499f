//! Who may do what: secret scopes, API lists, access control between apps.

use super::Error;
use serde::Deserialize;
use std::collections::BTreeSet;

/// Which secrets of one store the app may read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SecretScope {
    /// `allow`, `deny` (any case), or empty for allow.
    pub default_access: String,
    #[serde(rename = "storeName")]
    pub store: String,
    /// Sorted.
    #[serde(rename = "allowedSecrets")]
    pub allowed: Vec<String>,
    /// Sorted.
    #[serde(rename = "deniedSecrets")]
    pub denied: Vec<String>,
}

impl SecretScope {
    /// A non-empty allow list decides alone; otherwise the deny list, then the default.
    pub fn allows(&self, secret: &str) -> bool {
        let has = |list: &[String]| list.binary_search_by(|name| name.as_str().cmp(secret)).is_ok();
        if !self.allowed.is_empty() {
            return has(&self.allowed);
        }
        !has(&self.denied) && !self.default_access.eq_ignore_ascii_case("deny")
    }
}

/// `spec.secrets`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Secrets {
    scopes: Vec<SecretScope>,
}

pub(super) fn checked(secrets: Secrets) -> Result<Vec<SecretScope>, Error> {
    let mut scopes = secrets.scopes;
    let mut seen = BTreeSet::new();
    for scope in &mut scopes {
        if !seen.insert(scope.store.clone()) {
            return Err(Error::RepeatedStore(scope.store.clone()));
        }
        let access = &scope.default_access;
        if !["", "allow", "deny"]
            .iter()
            .any(|word| access.eq_ignore_ascii_case(word))
        {
            return Err(Error::DefaultAccess(access.clone()));
        }
        scope.allowed.sort();
        scope.denied.sort();
    }
    Ok(scopes)
}

/// `spec.api`: which groups of the API exist. Empty lists allow all; deny wins over allow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Api {
    pub allowed: Vec<ApiRule>,
    pub denied: Vec<ApiRule>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ApiRule {
    pub name: String,
    pub version: String,
    /// `http` (in any case) or `grpc`.
    pub protocol: String,
}

impl Api {
    /// Whether an HTTP endpoint exists. `group` is its version and name, `route` its path without the first slash
    /// (`v1.0/state/{storeName}`). COMPAT(pkg/api/http/endpoints): a rule also means every route that begins with it.
    pub fn allows_http(&self, group: Option<(&str, &str)>, route: &str) -> bool {
        let rules = |rules: &[ApiRule]| {
            let http = |rule: &&ApiRule| rule.protocol.eq_ignore_ascii_case("http");
            rules.iter().filter(http).cloned().collect::<Vec<_>>()
        };
        let is = |rule: &ApiRule| {
            group == Some((&rule.version, &rule.name))
                || route.starts_with(&format!("{}/{}", rule.version, rule.name))
        };
        let allowed = rules(&self.allowed);
        !rules(&self.denied).iter().any(is) && (allowed.is_empty() || allowed.iter().any(is))
    }

    /// Whether a gRPC method exists that is in these groups (`state.v1`). `known` tells which groups there are.
    /// COMPAT(pkg/api/grpc/endpoints.go): a rule for an unknown group is no rule.
    pub fn allows_grpc(&self, groups: &[&str], known: impl Fn(&str) -> bool) -> bool {
        let rules = |rules: &[ApiRule]| {
            let grpc = rules.iter().filter(|rule| rule.protocol == "grpc");
            grpc.map(|rule| format!("{}.{}", rule.name, rule.version))
                .filter(|group| known(group))
                .collect::<Vec<_>>()
        };
        let is = |rule: &String| groups.contains(&rule.as_str());
        let allowed = rules(&self.allowed);
        !rules(&self.denied).iter().any(is) && (allowed.is_empty() || allowed.iter().any(is))
    }
}

/// `spec.accessControl`: which apps may call which operations of this one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AccessControl {
    /// `allow` unless set.
    pub default_action: String,
    /// `public` unless set.
    pub trust_domain: String,
    pub policies: Vec<AppPolicy>,
}

impl Default for AccessControl {
    fn default() -> Self {
        Self {
            default_action: "allow".to_owned(),
            trust_domain: "public".to_owned(),
            policies: Vec::new(),
        }
    }
}

/// What one calling app may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AppPolicy {
    #[serde(rename = "appId")]
    pub app: String,
    pub default_action: String,
    pub trust_domain: String,
    pub namespace: String,
    pub operations: Vec<Operation>,
}

/// A method pattern, its verbs and what happens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Operation {
    pub name: String,
    #[serde(rename = "httpVerb")]
    pub http_verbs: Vec<String>,
    pub action: String,
}
