//! `kind: HTTPEndpoint`: an external service that apps call by name.

use crate::component::Auth;
use crate::property::{Dynamic, Item, SecretKeyRef};
use serde::Deserialize;

/// Reference: `pkg/apis/httpEndpoint/v1alpha1`.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpEndpoint {
    pub name: String,
    /// Empty when the document has none.
    pub namespace: String,
    pub base_url: String,
    /// Sent with every request.
    pub headers: Vec<Item>,
    pub client_tls: Option<ClientTls>,
    /// The secret store that `secretKeyRef` names refer to; empty when the document has none.
    pub secret_store: String,
    /// App ids that may use it; empty means all.
    pub scopes: Vec<String>,
}

/// How to speak TLS to the endpoint; each part is PEM.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientTls {
    #[serde(rename = "rootCA")]
    pub root_ca: Option<Pem>,
    pub certificate: Option<Pem>,
    pub private_key: Option<Pem>,
    /// `Never`, `OnceAsClient`, `FreelyAsClient`; empty for the first. Only `Never` exists in TLS 1.3.
    pub renegotiation: String,
}

/// PEM text, or where to find it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Pem {
    pub value: Option<Dynamic>,
    pub secret_key_ref: Option<SecretKeyRef>,
}

impl<'de> Deserialize<'de> for HttpEndpoint {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Document {
            metadata,
            spec,
            auth,
            scopes,
        } = Document::deserialize(from)?;
        Ok(Self {
            name: metadata.name,
            namespace: metadata.namespace,
            base_url: spec.base_url,
            headers: spec.headers,
            client_tls: spec.client_tls,
            secret_store: auth.secret_store,
            scopes,
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    metadata: crate::disk::Header,
    spec: Spec,
    auth: Auth,
    scopes: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    base_url: String,
    headers: Vec<Item>,
    #[serde(rename = "clientTLS")]
    client_tls: Option<ClientTls>,
}
