//! Values by path pattern, as a tree of segments.
//!
//! A pattern also stands for every path below it. `*` as a whole segment stands for any last segment, `**` for any rest, and
//! `*` inside a segment for any text within it. Of the patterns beside each other the first written that fits is taken, and
//! its branch alone is followed.
//!
//! COMPAT(pkg/config/acl_trie.go): which pattern wins, down to its odd corners.

const LAST: &str = "*";
const REST: &str = "**";

#[derive(Debug)]
pub struct Paths<T> {
    /// In the order written.
    nodes: Vec<Node<T>>,
}

#[derive(Debug)]
struct Node<T> {
    segment: String,
    value: Option<T>,
    below: Paths<T>,
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self { nodes: Vec::new() }
    }
}

impl<T> Paths<T> {
    /// `path` begins with a slash. The first value of a path stays.
    pub fn insert(&mut self, path: &str, value: T) {
        let path = path.strip_prefix('/').unwrap_or(path);
        let (segment, rest) = path
            .split_once('/')
            .map_or((path, None), |(segment, rest)| (segment, Some(rest)));
        let at = match self.nodes.iter().position(|node| node.segment == segment) {
            Some(at) => at,
            None => {
                self.nodes.push(Node {
                    segment: segment.to_owned(),
                    value: None,
                    below: Self::default(),
                });
                self.nodes.len() - 1
            }
        };
        let Some(node) = self.nodes.get_mut(at) else {
            return;
        };
        match rest {
            // A slash is put back, since the rest may begin with an empty segment.
            Some(rest) => node.below.insert(&format!("/{rest}"), value),
            None => {
                node.value.get_or_insert(value);
            }
        }
    }

    /// The value of the pattern that stands for `path`, which begins with a slash.
    pub fn find(&self, path: &str) -> Option<&T> {
        let mut here = self;
        let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
        while let Some(segment) = segments.next() {
            let is_last = segments.peek().is_none();
            let node = here.fitting(segment, is_last)?;
            match &node.value {
                // A lone star found by its own name in the middle stands for nothing below it.
                Some(_) if !is_last && node.segment == LAST => {}
                Some(value) => return Some(value),
                None if is_last => return node.below.fitting(LAST, true)?.value.as_ref(),
                None => {}
            }
            here = &node.below;
        }
        None
    }

    fn fitting(&self, segment: &str, is_last: bool) -> Option<&Node<T>> {
        self.nodes.iter().find(|node| match node.segment.as_str() {
            known if known == segment => true,
            LAST => is_last,
            REST => true,
            pattern => fits(segment.as_bytes(), pattern.as_bytes()),
        })
    }
}

/// Whether a text is what a pattern says, in which `*` stands for any text. Linear but for going back to the last star.
fn fits(text: &[u8], pattern: &[u8]) -> bool {
    let (mut at, mut of) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(at) {
        match pattern.get(of) {
            Some(b'*') => {
                star = Some((of, at));
                of += 1;
            }
            Some(known) if known == byte => {
                at += 1;
                of += 1;
            }
            _ => match star {
                // The star takes one byte more.
                Some((place, taken)) => {
                    star = Some((place, taken + 1));
                    of = place + 1;
                    at = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(of).all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::{Paths, fits};

    #[test]
    fn stars() {
        for (text, pattern, expected) in [
            ("", "", true),
            ("", "*", true),
            ("a", "", false),
            ("abc", "abc", true),
            ("abc", "a*", true),
            ("abc", "*c", true),
            ("abc", "a*c", true),
            ("abc", "a*d", false),
            ("abcbc", "a*bc", true),
            ("abcb", "a*bc", false),
            ("aXbYc", "a*b*c", true),
            ("abc", "**", true),
        ] {
            assert_eq!(
                fits(text.as_bytes(), pattern.as_bytes()),
                expected,
                "{text} {pattern}"
            );
        }
    }

    #[test]
    fn patterns_and_paths() {
        let patterns = [
            "/public",
            "/a/b",
            "/one/*",
            "/all/**",
            "/v*/x",
            "/both/*",
            "/both/named",
            "/deep/*/end",
        ];
        let mut paths = Paths::default();
        for (number, pattern) in patterns.iter().enumerate() {
            paths.insert(pattern, number);
        }
        paths.insert("/public", 99);
        for (path, expected) in [
            ("/public", Some("/public")),
            ("/public/extra/more", Some("/public")),
            ("/publicly", None),
            ("/a", None),
            ("/a/b", Some("/a/b")),
            ("/a/b/c", Some("/a/b")),
            ("/one/x", Some("/one/*")),
            ("/one", Some("/one/*")),
            ("/one/x/y", None),
            ("/all/x/y/z", Some("/all/**")),
            ("/v1/x", Some("/v*/x")),
            ("/v1/y", None),
            // The first pattern that fits wins.
            ("/both/named", Some("/both/*")),
            // A star alone stands for the last segment only.
            ("/deep/x/end", None),
            ("/deep/*/end", Some("/deep/*/end")),
            ("/", None),
        ] {
            let found = paths.find(path).map(|number| patterns[*number]);
            assert_eq!(found, expected, "{path}");
        }
    }
}
