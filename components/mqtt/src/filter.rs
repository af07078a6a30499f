//! Which topics a subscription means.

/// Without `$share/GROUP/`, which says who shares it and not what it is for.
pub(crate) fn bare(filter: &str) -> &str {
    let shared = filter
        .strip_prefix("$share/")
        .and_then(|rest| rest.split_once('/'));
    match shared {
        Some((_, bare)) if !bare.is_empty() => bare,
        _ => filter,
    }
}

/// Whether `filter`, without `$share`, has wildcards that mean `topic`, or is it. MQTT 3.1.1, section 4.7.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    // Wildcards do not mean what brokers keep for themselves.
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            // Also the level above: `a/#` means `a`.
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Why nothing can be published to a topic.
pub(crate) fn fault(topic: &str) -> Option<&'static str> {
    if topic.is_empty() {
        Some("topic name is empty")
    } else if topic.contains(['+', '#']) {
        Some("a topic that is published to cannot have wildcards (+, #)")
    } else if topic.contains('\0') {
        Some("a topic cannot hold the character 0")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{bare, fault, matches};

    #[test]
    fn meanings() {
        for (filter, topic, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a", "a/b", false),
            ("a/b", "a", false),
            ("#", "a/b/c", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/#", "ab", false),
            ("+", "a", true),
            ("+", "a/b", false),
            ("+/+", "/a", true),
            ("a/+/c", "a/b/c", true),
            ("a/+/c", "a/b/d", false),
            ("a/+", "a/", true),
            ("a/+", "a", false),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn shared() {
        for (filter, expected) in [
            ("$share/g/a/+", "a/+"),
            ("$share/g//a", "/a"),
            ("$share/g/", "$share/g/"),
            ("$share/g", "$share/g"),
            ("a/$share/g/b", "a/$share/g/b"),
        ] {
            assert_eq!(bare(filter), expected, "{filter}");
        }
    }

    #[test]
    fn topics() {
        for (topic, fine) in [
            ("a/b", true),
            ("", false),
            ("a/#", false),
            ("a+", false),
            ("\0", false),
        ] {
            assert_eq!(fault(topic).is_none(), fine, "{topic:?}");
        }
    }
}
