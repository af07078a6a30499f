//! `outrigger components`: the component types of this build, and what can be written for each.

use crate::commands::Context;
use crate::roles;
use crate::screen::table;
use anyhow::{Result, bail};
use clap::Args;
use outrigger_component::options::{NONE, Opt, REQUIRED};
use outrigger_component::registry::Type;
use serde_json::{Value, json};

/// Show the component types of this build, or what can be written for one
#[derive(Debug, Args)]
#[command(
    long_about = "Show the component types of this build with their versions, or, for one type, what can be written under \
        `metadata` of its Component: names, what holds without them, and what they do.",
    after_help = "Examples:\n  outrigger components\n  outrigger components pubsub.redis\n  \
        outrigger components state.sqlite --json\n\n\
        Exit codes: 0 done, 1 there is no such type, 2 wrong usage."
)]
pub(crate) struct Flags {
    /// A type, for example pubsub.redis, or with its version state.redis/v1
    #[arg(value_name = "TYPE")]
    kind: Option<String>,

    /// Print it as JSON: types with all that can be written for them
    #[arg(long)]
    json: bool,

    /// Print what can be written as Markdown, as docs/components has it
    #[arg(long, conflicts_with = "json", requires = "kind")]
    markdown: bool,
}

pub(crate) fn run(flags: &Flags, context: &Context) -> Result<u8> {
    let all = roles::registry(&context.environment, None).types();
    let Some(name) = &flags.kind else {
        let text = match flags.json {
            true => json_of(&all.iter().collect::<Vec<_>>())?,
            false => list(&all),
        };
        context.screen.write(text.as_bytes());
        return Ok(0);
    };
    let found = find(&all, name)?;
    let text = match (flags.json, flags.markdown) {
        (true, _) => json_of(&found)?,
        (_, true) => versions(&found, markdown),
        _ => versions(&found, plain),
    };
    context.screen.write(text.as_bytes());
    Ok(0)
}

/// All versions of a type, or the one that was asked for.
fn find<'t>(all: &'t [Type], name: &str) -> Result<Vec<&'t Type>> {
    let (wanted, version) = match name.split_once('/') {
        Some((name, version)) => (name, Some(version)),
        None => (name, None),
    };
    let same = |of: &&Type| of.full().eq_ignore_ascii_case(wanted);
    let found: Vec<&Type> = all
        .iter()
        .filter(same)
        .filter(|of| version.is_none_or(|version| of.version.eq_ignore_ascii_case(version)))
        .collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let versions: Vec<String> = all.iter().filter(same).map(|of| of.version.clone()).collect();
    if !versions.is_empty() {
        bail!(
            "component type {wanted} has no such version; there is {}",
            versions.join(", ")
        );
    }
    let near = near(all, wanted);
    if near.is_empty() {
        bail!("there is no component type {wanted:?} in this build; `outrigger components` lists all");
    }
    bail!(
        "there is no component type {wanted:?} in this build; did you mean {}? `outrigger components` lists all",
        near.join(", ")
    );
}

/// Types that somebody may have meant: nearly so written, or the same behind or before the dot.
fn near(all: &[Type], wanted: &str) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let last = wanted.rsplit('.').next().unwrap_or(&wanted);
    let mut found: Vec<(usize, String)> = all
        .iter()
        .filter(|of| of.alias_of.is_none())
        .filter_map(|of| {
            let full = of.full();
            let away = distance(&full, &wanted).min(distance(&of.name, last) + 1);
            (away <= 3 || (last.len() > 2 && of.name.contains(last))).then_some((away, full))
        })
        .collect();
    found.sort();
    found.dedup();
    found.truncate(5);
    found.into_iter().map(|(_, name)| name).collect()
}

/// Letters that must be changed, added or left out to get from one text to the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut next = vec![at + 1];
        for (column, pair) in row.windows(2).enumerate() {
            let [diagonal, above] = *pair else { continue };
            let changed = diagonal + usize::from(other.get(column) != Some(&letter));
            let left = next.last().copied().unwrap_or(at + 1);
            next.push(changed.min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

fn list(all: &[Type]) -> String {
    let mut rows = vec![["TYPE", "VERSIONS", ""].map(str::to_owned).to_vec()];
    for of in all {
        let full = of.full();
        if let Some(last) = rows.last_mut()
            && last.first() == Some(&full)
        {
            if let Some(versions) = last.get_mut(1) {
                versions.push_str(&format!(", {}", of.version));
            }
            continue;
        }
        let same = of
            .alias_of
            .as_ref()
            .map(|of| format!("another name of {of}"))
            .unwrap_or_default();
        let category = |row: &[String]| row.first()?.split_once('.').map(|(of, _)| of.to_owned());
        if rows.len() > 1 && rows.last().and_then(|row| category(row)).as_deref() != Some(of.category) {
            rows.push(vec![String::new()]);
        }
        rows.push(vec![full, of.version.clone(), same]);
    }
    table(&rows)
}

fn json_of(types: &[&Type]) -> Result<String> {
    let types: Vec<Value> = types
        .iter()
        .map(|of| {
            let common = |option: &Opt| of.common.iter().any(|common| std::ptr::eq(common, option));
            let options: Vec<Value> = of
                .all_options()
                .map(|option| {
                    json!({
                        "name": option.name,
                        "also": option.also,
                        "required": option.default == REQUIRED,
                        "default": (option.default != REQUIRED && option.default != NONE).then_some(option.default),
                        "about": option.about,
                        "common": common(option),
                    })
                })
                .collect();
            json!({
                "type": of.full(),
                "version": of.version,
                "category": of.category,
                "aliasOf": of.alias_of,
                "anyName": of.options.is_none(),
                "options": options,
            })
        })
        .collect();
    Ok(serde_json::to_string_pretty(&types)? + "\n")
}

/// Versions that can be told the same are told once.
fn versions(types: &[&Type], show: fn(&Type) -> String) -> String {
    let mut texts: Vec<(Vec<&str>, String)> = Vec::new();
    for of in types {
        let text = show(of);
        match texts.iter_mut().find(|(_, other)| *other == text) {
            Some((versions, _)) => versions.push(&of.version),
            None => texts.push((vec![&of.version], text)),
        }
    }
    match &texts[..] {
        [(_, text)] => text.clone(),
        several => several
            .iter()
            .map(|(versions, text)| format!("Version {}:\n\n{text}", versions.join(", ")))
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

fn plain(of: &Type) -> String {
    let mut rows = vec![["NAME", "DEFAULT", "MEANING"].map(str::to_owned).to_vec()];
    for option in of.all_options() {
        rows.push(vec![
            names(option, |name| name.to_owned()),
            option.default.replace('`', ""),
            unlinked(option.about).replace('`', ""),
        ]);
    }
    if rows.len() == 1 {
        return nothing(of);
    }
    table(&rows)
}

/// Instead of an empty table.
fn nothing(of: &Type) -> String {
    match of.options {
        None => "Any name can be written.\n".to_owned(),
        Some(_) => "There is nothing to set.\n".to_owned(),
    }
}

fn markdown(of: &Type) -> String {
    let mut text = String::new();
    for option in of.all_options() {
        let default = match option.default {
            NONE => "none".to_owned(),
            REQUIRED => "**required**".to_owned(),
            default => default.replace('|', "\\|"),
        };
        text.push_str(&format!(
            "| {} | {default} | {} |\n",
            names(option, |name| format!("`{name}`")),
            option.about.replace('|', "\\|")
        ));
    }
    if text.is_empty() {
        return nothing(of);
    }
    format!("| Metadata | Default | |\n|---|---|---|\n{text}")
}

fn names(option: &Opt, show: fn(&str) -> String) -> String {
    let also: Vec<String> = option.also.iter().copied().map(show).collect();
    match also.is_empty() {
        true => show(option.name),
        false => format!("{} (or {})", show(option.name), also.join(", ")),
    }
}

/// Links as their text.
fn unlinked(markdown: &str) -> String {
    let mut text = String::new();
    let mut rest = markdown;
    while let Some((before, link)) = rest.split_once('[') {
        let parts = link
            .split_once("](")
            .and_then(|(shown, behind)| Some((shown, behind.split_once(')')?.1)));
        let Some((shown, behind)) = parts else {
            break;
        };
        text.push_str(before);
        text.push_str(shown);
        rest = behind;
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::{distance, find, list, markdown, near, plain, unlinked, versions};
    use outrigger_component::options::{NONE, Opt, REQUIRED, opt};
    use outrigger_component::registry::Type;

    const OWN: &[Opt] = &[
        opt("host", REQUIRED, "`host:port` of [the server](x.md)").or(&["url"]),
        opt("mode", "a|b", "how"),
        opt("tls", NONE, "whether"),
    ];
    const COMMON: &[Opt] = &[opt("shared", "1", "for all"), opt("Mode", "2", "is said better")];

    fn of(category: &'static str, name: &str, version: &str) -> Type {
        Type {
            category,
            name: name.to_owned(),
            version: version.to_owned(),
            options: Some(&[OWN]),
            names: Vec::new(),
            alias_of: None,
            common: COMMON,
        }
    }

    fn all() -> Vec<Type> {
        vec![
            of("state", "postgresql", "v1"),
            Type {
                options: Some(&[]),
                ..of("state", "postgresql", "v2")
            },
            of("state", "redis", "v1"),
            of("pubsub", "redis", "v1"),
        ]
    }

    #[test]
    fn near_matches() {
        for (wanted, expected) in [
            ("redis", &["pubsub.redis", "state.redis"][..]),
            ("state.reddis", &["state.redis", "pubsub.redis"]),
            ("STATE.postgres", &["state.postgresql"]),
            ("pubsub.kafka", &[]),
            ("", &[]),
        ] {
            assert_eq!(near(&all(), wanted), expected, "{wanted}");
        }
        for (one, other, away) in [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("", "ab", 2)] {
            assert_eq!(distance(one, other), away, "{one} {other}");
        }
    }

    #[test]
    fn types_and_versions_are_found() {
        let all = all();
        for (name, count) in [
            ("state.postgresql", 2),
            ("State.PostgreSQL/V2", 1),
            ("pubsub.redis", 1),
        ] {
            assert_eq!(find(&all, name).unwrap().len(), count, "{name}");
        }
        for (name, says) in [
            ("state.postgresql/v3", "there is v1, v2"),
            ("redis", "did you mean pubsub.redis, state.redis?"),
            ("nonsense", "lists all"),
        ] {
            let error = find(&all, name).unwrap_err().to_string();
            assert!(error.contains(says), "{name}: {error}");
        }
        let list = list(&all);
        assert!(list.contains("state.postgresql  v1, v2\n"), "{list}");
        assert!(list.contains("v1\n\npubsub.redis"), "{list}");
    }

    #[test]
    fn tables() {
        let all = all();
        assert_eq!(
            markdown(&all[0]),
            "| Metadata | Default | |\n|---|---|---|\n\
             | `host` (or `url`) | **required** | `host:port` of [the server](x.md) |\n\
             | `mode` | a\\|b | how |\n| `tls` | none | whether |\n| `shared` | 1 | for all |\n"
        );
        let text = plain(&all[0]);
        assert!(
            text.contains("host (or url)  required  host:port of the server\n"),
            "{text}"
        );
        let both = versions(&[&all[0], &all[1]], plain);
        assert!(
            both.starts_with("Version v1:\n\nNAME") && both.contains("\nVersion v2:\n"),
            "{both}"
        );
        assert_eq!(versions(&[&all[0], &all[2]], plain), text, "told once");
        assert_eq!(unlinked("a [b](c) [d [e](f) g"), "a b d [e g");
    }
}
