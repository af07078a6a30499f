//! The forwarding headers of an invocation: who passed it on.

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use std::net::Ipv6Addr;

/// Computed once. Sources: RFC 7239; COMPAT(pkg/messaging/direct_messaging.go).
pub(super) struct Forwarded {
    fields: Vec<(HeaderName, HeaderValue)>,
}

impl Forwarded {
    /// Empty texts are left out, as is what cannot stand in a header.
    pub(super) fn new(address: &str, host: &str) -> Self {
        let mut fields = Vec::with_capacity(3);
        let mut forwarded = Vec::new();
        if !address.is_empty() {
            // IPv6 addresses are bracketed and quoted in `Forwarded` (RFC 7239 section 6).
            let node = if address.parse::<Ipv6Addr>().is_ok() {
                format!("\"[{address}]\"")
            } else {
                address.to_owned()
            };
            fields.push((HeaderName::from_static("x-forwarded-for"), address.to_owned()));
            forwarded.push(format!("for={node};by={node}"));
        }
        if !host.is_empty() {
            fields.push((HeaderName::from_static("x-forwarded-host"), host.to_owned()));
            forwarded.push(format!("host={host}"));
        }
        fields.push((FORWARDED, forwarded.join(";")));
        Self {
            fields: fields
                .into_iter()
                .filter_map(|(name, text)| Some((name, HeaderValue::try_from(text).ok()?)))
                .collect(),
        }
    }

    pub(super) fn add(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.fields {
            headers.append(name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Forwarded;
    use http::HeaderMap;

    #[test]
    fn addresses_of_both_families() {
        for (address, host, expected) in [
            ("10.0.0.1", "h", "for=10.0.0.1;by=10.0.0.1;host=h"),
            (
                "2001:db8::1",
                "h",
                "for=\"[2001:db8::1]\";by=\"[2001:db8::1]\";host=h",
            ),
            ("", "h", "host=h"),
        ] {
            let mut headers = HeaderMap::new();
            Forwarded::new(address, host).add(&mut headers);
            assert_eq!(headers["forwarded"], expected);
        }
    }
}
