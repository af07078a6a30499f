//! Patterns as in SQL's LIKE: `%` is any text, `_` any one character, `\` takes the next character as it is.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    One(char),
    AnyOne,
    Any,
}

/// A pattern, ready to be compared with.
pub struct Pattern(Vec<Part>);

impl Pattern {
    /// A `\` at the end stands for itself.
    pub fn new(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = text.chars();
        while let Some(next) = rest.next() {
            parts.push(match next {
                '%' => Part::Any,
                '_' => Part::AnyOne,
                '\\' => Part::One(rest.next().unwrap_or('\\')),
                other => Part::One(other),
            });
        }
        Self(parts)
    }

    /// What every match begins with.
    pub fn prefix(&self) -> String {
        let fixed = self.0.iter().map_while(|part| match part {
            Part::One(character) => Some(*character),
            Part::AnyOne | Part::Any => None,
        });
        fixed.collect()
    }

    /// Takes time in proportion to pattern times text at worst.
    pub fn matches(&self, text: &str) -> bool {
        let mut text = text.chars();
        let mut part = 0;
        // After the last `%`: which part follows it, and the text it may still swallow.
        let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            if let Some(Part::Any) = self.0.get(part) {
                part += 1;
                retry = Some((part, text.clone()));
                continue;
            }
            let mut ahead = text.clone();
            let fits = match (self.0.get(part), ahead.next()) {
                (None, None) => return true,
                (Some(Part::One(expected)), Some(found)) => *expected == found,
                (Some(Part::AnyOne), Some(_)) => true,
                _ => false,
            };
            if fits {
                text = ahead;
                part += 1;
                continue;
            }
            let Some((after, swallowed)) = &mut retry else {
                return false;
            };
            if swallowed.next().is_none() {
                return false;
            }
            part = *after;
            text = swallowed.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("%", "", true),
            ("%", "äöü", true),
            ("", "", true),
            ("", "a", false),
            ("a%", "a", true),
            ("a%", "ab", true),
            ("a%", "ba", false),
            ("_", "ä", true),
            ("_", "", false),
            ("a_c", "abc", true),
            ("a_c", "ac", false),
            ("%b%b", "abbb", true),
            ("%b%b", "ab", false),
            ("%ab", "aab", true),
            ("a\\%b", "a%b", true),
            ("a\\%b", "axb", false),
            ("a\\_", "a_", true),
            ("a\\\\", "a\\", true),
            ("a\\", "a\\", true),
            ("%%_%", "x", true),
        ] {
            assert_eq!(
                Pattern::new(pattern).matches(text),
                expected,
                "{text:?} like {pattern:?}"
            );
        }
        assert_eq!(Pattern::new("or\\_ders||%").prefix(), "or_ders||");
        assert_eq!(Pattern::new("%x").prefix(), "");
    }
}
