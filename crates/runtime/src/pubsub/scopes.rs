//! Which topics of a broker this app may publish to and subscribe to, from the component's metadata. Parsed once,
//! when the component is loaded.
//!
//! COMPAT(pkg/scopes/scopes.go, pkg/runtime/pubsub/adapter.go): spaces are ignored; an app that is not named in a
//! scope list is not restricted by it; a protected topic is only for apps that name it.

use outrigger_component::metadata::Metadata;
use std::collections::BTreeSet;

/// Topic lists of one broker, as far as they concern one app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes {
    /// When not empty, the only topics there are.
    allowed: BTreeSet<String>,
    /// Topics that must be granted by a scope list.
    protected: BTreeSet<String>,
    publishing: BTreeSet<String>,
    subscription: BTreeSet<String>,
}

impl Scopes {
    /// Reads `allowedTopics`, `protectedTopics` (`a,b`), `publishingScopes` and `subscriptionScopes`
    /// (`app1=a,b;app2=`), names in any case.
    pub fn parse(metadata: &Metadata, app_id: &str) -> Self {
        let text = |name: &str| metadata.get_any_case(name).unwrap_or_default();
        Self {
            allowed: topics(text("allowedTopics")),
            protected: topics(text("protectedTopics")),
            publishing: granted(text("publishingScopes"), app_id),
            subscription: granted(text("subscriptionScopes"), app_id),
        }
    }

    pub fn may_publish(&self, topic: &str) -> bool {
        self.permits(topic, &self.publishing)
    }

    pub fn may_subscribe(&self, topic: &str) -> bool {
        self.permits(topic, &self.subscription)
    }

    fn permits(&self, topic: &str, granted: &BTreeSet<String>) -> bool {
        if !self.allowed.is_empty() && !self.allowed.contains(topic) {
            return false;
        }
        let restricted = !granted.is_empty() || self.protected.contains(topic);
        !restricted || granted.contains(topic)
    }
}

fn topics(list: &str) -> BTreeSet<String> {
    if list.is_empty() {
        return BTreeSet::new();
    }
    list.replace(' ', "").split(',').map(str::to_owned).collect()
}

/// The topics of `app_id` in `app1=a,b;app2=`. `app=` grants the topic with the empty name: none at all.
fn granted(list: &str, app_id: &str) -> BTreeSet<String> {
    list.replace(' ', "")
        .split(';')
        .filter_map(|entry| {
            let mut parts = entry.split('=');
            Some((parts.next()?, parts.next()?))
        })
        .filter(|(app, _)| *app == app_id)
        .flat_map(|(_, list)| list.split(',').map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests;
