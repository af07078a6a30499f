//! From an app id to a host name and port.

use outrigger_component::error::{Error, Result};
use outrigger_component::resolver::Target;

/// Text with places for what differs from app to app.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Part>);

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    AppId,
    Namespace,
    Port,
}

impl Pattern {
    /// `{appid}` in a text.
    pub(super) fn format(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::invalid("format is required in metadata"));
        }
        if !text.contains("{appid}") {
            return Err(Error::invalid("format must contain {appid} placeholder"));
        }
        let mut parts = Vec::new();
        for (index, text) in text.split("{appid}").enumerate() {
            if index > 0 {
                parts.push(Part::AppId);
            }
            parts.push(Part::Text(text.to_owned()));
        }
        Ok(Self(parts))
    }

    /// The service of an app in a Kubernetes cluster.
    pub(super) fn service(domain: &str) -> Self {
        Self(vec![
            Part::AppId,
            Part::Text("-dapr.".to_owned()),
            Part::Namespace,
            Part::Text(format!(".svc.{domain}:")),
            Part::Port,
        ])
    }

    /// A template in Go's notation, as far as it says `{{.ID}}`, `{{.Namespace}}` and `{{.Port}}`.
    pub(super) fn template(text: &str) -> Result<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((action, after)) = after.split_once("}}") else {
                return Err(Error::invalid(format!("template {text:?}: {{{{ without }}}}")));
            };
            parts.push(Part::Text(before.to_owned()));
            parts.push(match action.trim() {
                ".ID" => Part::AppId,
                ".Namespace" => Part::Namespace,
                ".Port" => Part::Port,
                other => {
                    return Err(Error::invalid(format!(
                        "template {text:?}: {other:?} is not available; .ID, .Namespace and .Port are"
                    )));
                }
            });
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// `host:port` of an app; `port` where the pattern has none.
    pub(super) fn address(&self, target: &Target, port: u16) -> String {
        let mut address = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => address.push_str(text),
                Part::AppId => address.push_str(&target.app_id),
                Part::Namespace => address.push_str(&target.namespace),
                Part::Port => address.push_str(&port.to_string()),
            }
        }
        // A colon inside brackets belongs to an IPv6 address.
        let behind_host = address
            .rsplit_once(']')
            .map_or(address.as_str(), |(_, rest)| rest);
        if behind_host.contains(':') {
            address
        } else {
            format!("{address}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;
    use outrigger_component::resolver::Target;

    #[test]
    fn addresses() {
        let target = Target {
            app_id: "shop".to_owned(),
            namespace: "prod".to_owned(),
        };
        for (pattern, expected) in [
            (Pattern::format("{appid}.example.com:99"), "shop.example.com:99"),
            (Pattern::format("{appid}-{appid}"), "shop-shop:50002"),
            (Pattern::format("[::1]{appid}"), "[::1]shop:50002"),
            (
                Ok(Pattern::service("cluster.local")),
                "shop-dapr.prod.svc.cluster.local:50002",
            ),
            (
                Pattern::template("{{.ID}}.{{ .Namespace }}.internal:{{.Port}}"),
                "shop.prod.internal:50002",
            ),
            (Pattern::template("fixed:1"), "fixed:1"),
        ] {
            assert_eq!(pattern.unwrap().address(&target, 50002), expected);
        }
    }

    #[test]
    fn what_is_no_pattern() {
        for (pattern, expected) in [
            (Pattern::format(""), "format is required in metadata"),
            (
                Pattern::format("example.com"),
                "format must contain {appid} placeholder",
            ),
            (Pattern::template("{{.ID"), "template \"{{.ID\": {{ without }}"),
            (
                Pattern::template("{{.Data}}"),
                "template \"{{.Data}}\": \".Data\" is not available; .ID, .Namespace and .Port are",
            ),
        ] {
            assert_eq!(pattern.unwrap_err().to_string(), expected);
        }
    }
}
