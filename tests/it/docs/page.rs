//! A page's code blocks, and how output is compared with what a page says. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// The runnable blocks of one page.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) blocks: Vec<Block>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Block {
    /// Where the block begins, for messages.
    pub(super) line: usize,
    pub(super) needs_redis: bool,
    pub(super) kind: Kind,
}

#[derive(Debug, PartialEq)]
pub(super) enum Kind {
    File { name: String, text: String },
    Run { commands: Vec<Command>, how: How },
    Appears(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum How {
    Once,
    Background,
    Eventually,
}

#[derive(Debug, PartialEq)]
pub(super) struct Command {
    pub(super) line: String,
    pub(super) output: Vec<String>,
}

impl Page {
    /// `path` is relative to the repository.
    pub(super) fn read(path: &str) -> Self {
        let text = std::fs::read_to_string(super::repository().join(path));
        Self::parse(&text.unwrap_or_else(|error| panic!("cannot read {path}: {error}")))
    }

    fn parse(text: &str) -> Self {
        let mut blocks = Vec::new();
        let mut lines = text.lines().enumerate();
        while let Some((at, line)) = lines.next() {
            let Some(info) = line.strip_prefix("```") else {
                continue;
            };
            let body: Vec<&str> = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| *line != "```")
                .collect();
            blocks.extend(Block::parse(at + 1, info, &body));
        }
        Self { blocks }
    }

    pub(super) fn has_commands(&self) -> bool {
        self.blocks
            .iter()
            .any(|block| matches!(block.kind, Kind::Run { .. }))
    }

    /// Ids of the apps that the page runs.
    pub(super) fn app_ids(&self) -> BTreeSet<&str> {
        let mut ids = BTreeSet::new();
        for block in &self.blocks {
            match &block.kind {
                Kind::Run { commands, .. } => {
                    ids.extend(
                        commands
                            .iter()
                            .flat_map(|command| after(&command.line, "app-id ")),
                    );
                }
                Kind::File { text, .. } => ids.extend(after(text, "appID: ")),
                Kind::Appears(_) => {}
            }
        }
        ids
    }

    /// Whether some command mentions this program.
    pub(super) fn mentions(&self, program: &str) -> bool {
        self.blocks.iter().any(|block| match &block.kind {
            Kind::Run { commands, .. } => commands.iter().any(|command| command.line.contains(program)),
            Kind::File { .. } | Kind::Appears(_) => false,
        })
    }
}

impl Block {
    /// `None` for what is not to be run.
    fn parse(line: usize, info: &str, body: &[&str]) -> Option<Self> {
        let mut words = info.split_whitespace();
        let language = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        let owned = |body: &[&str]| body.iter().map(|&line| line.to_owned()).collect();
        let has = |word: &str| words.contains(&word);
        let file = words.iter().find_map(|word| word.strip_prefix("file="));
        let kind = match (file, language) {
            (Some(name), _) => Kind::File {
                name: name.to_owned(),
                text: body.join("\n") + "\n",
            },
            (None, "console") => Kind::Run {
                commands: commands(line, body),
                how: match (has("background"), has("eventually")) {
                    (true, false) => How::Background,
                    (false, true) => How::Eventually,
                    (false, false) => How::Once,
                    (true, true) => panic!("line {line}: background or eventually, not both"),
                },
            },
            (None, "text") if has("appears") => Kind::Appears(owned(body)),
            _ => return None,
        };
        Some(Self {
            line,
            needs_redis: has("redis"),
            kind,
        })
    }
}

fn commands(line: usize, body: &[&str]) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    for &text in body {
        match (text.strip_prefix("$ "), commands.last_mut()) {
            (Some(line), _) => commands.push(Command {
                line: line.to_owned(),
                output: Vec::new(),
            }),
            (None, Some(last)) if last.line.ends_with('\\') => {
                last.line.push('\n');
                last.line.push_str(text);
            }
            (None, Some(last)) => last.output.push(text.to_owned()),
            (None, None) => {
                panic!("line {line}: a console block begins with a command (`$ …`), not with {text:?}")
            }
        }
    }
    assert!(
        !commands.is_empty(),
        "line {line}: a console block without a command"
    );
    commands
}

/// The words right behind each occurrence of `mark`.
fn after<'t>(text: &'t str, mark: &'t str) -> impl Iterator<Item = &'t str> {
    text.split(mark)
        .skip(1)
        .filter_map(|rest| rest.split_whitespace().next())
}

/// Puts other words for those that pages name: ports and app ids. A word is letters, digits, `-` and `_`.
pub(super) fn with_words(text: &str, words: &BTreeMap<String, String>) -> String {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_part) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c| !is_part(c)).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        replaced.push_str(before);
        replaced.push_str(words.get(word).map_or(word, String::as_str));
        rest = after;
    }
    replaced.push_str(rest);
    replaced
}

/// Whether the output is as the page says; no lines say nothing.
pub(super) fn matches(expected: &[String], output: &str) -> bool {
    let output: Vec<&str> = output.lines().collect();
    expected.is_empty() || all_lines(expected, &output)
}

fn all_lines(expected: &[String], output: &[&str]) -> bool {
    match (expected.split_first(), output.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "…" => {
            all_lines(rest, output)
                || output
                    .split_first()
                    .is_some_and(|(_, after)| all_lines(expected, after))
        }
        (Some((first, rest)), Some((line, after))) => line_matches(first, line) && all_lines(rest, after),
        _ => false,
    }
}

/// Whether every expected line has appeared, in this order, whatever is between.
pub(super) fn appeared(expected: &[String], output: &str) -> bool {
    let mut output = output.lines();
    expected
        .iter()
        .all(|wanted| output.any(|line| line_matches(wanted, line)))
}

fn line_matches(pattern: &str, line: &str) -> bool {
    let line = line.trim_end();
    let mut parts = pattern.trim_end().split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::{Block, Command, How, Kind, Page, appeared, matches, with_words};

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn blocks_are_found() {
        let text = "# T\n```sh\n$ no\n```\n```python file=a/b.py\nx\n\ny\n```\n```console redis\n$ one \\\n  two\nout\n$ three\n```\n```text appears\nhi\n```\n";
        let command = |line: &str, output: &str| Command {
            line: line.to_owned(),
            output: lines(output),
        };
        let expected = [
            Block {
                line: 5,
                needs_redis: false,
                kind: Kind::File {
                    name: "a/b.py".into(),
                    text: "x\n\ny\n".into(),
                },
            },
            Block {
                line: 10,
                needs_redis: true,
                kind: Kind::Run {
                    commands: vec![command("one \\\n  two", "out"), command("three", "")],
                    how: How::Once,
                },
            },
            Block {
                line: 16,
                needs_redis: false,
                kind: Kind::Appears(lines("hi")),
            },
        ];
        assert_eq!(Page::parse(text).blocks, expected);
    }

    #[test]
    fn output_is_compared() {
        let cases = [
            ("", "anything", true),
            ("a", "a\n", true),
            ("a", "ab", false),
            ("a", "", false),
            ("a", "a\nb", false),
            ("a…", "ab", true),
            ("…b…d", "abcd", true),
            ("…b…d", "acd", false),
            ("a…a", "a", false),
            ("a\n…", "a\nb\nc", true),
            ("…\nc", "a\nb\nc", true),
            ("…\nb", "a\nb\nc", false),
        ];
        for (expected, output, same) in cases {
            assert_eq!(matches(&lines(expected), output), same, "{expected:?} {output:?}");
        }
        assert!(appeared(&lines("b\nd"), "a\nb\nc\nd\ne"));
        assert!(!appeared(&lines("d\nb"), "a\nb\nc\nd\ne"));
    }

    #[test]
    fn words_are_replaced_as_a_whole() {
        let words = [("8000", "1"), ("3500", "2"), ("shop", "shop2")];
        let words = words.map(|(from, to)| (from.to_owned(), to.to_owned())).into();
        let text = "a:8000/3500 18000 80001 8000, shop: shop.py|shop||k shop-redis workshop";
        let expected = "a:1/2 18000 80001 1, shop2: shop2.py|shop2||k shop-redis workshop";
        assert_eq!(with_words(text, &words), expected);
    }

    #[test]
    fn app_ids_are_found() {
        let text = "```console\n$ outrigger run --app-id a -- x\n$ outrigger stop b\n```\n```yaml file=c\nappID: c\n```\n";
        assert_eq!(Page::parse(text).app_ids(), ["a", "c"].into());
    }
}
