//! Connection strings: `name=value …` and URLs, taken apart.

use outrigger_component::error::{Error, Result};
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;

/// What a pool of the reference's client could be told, and ours has no use for.
pub(super) const POOL: [&str; 7] = [
    "pool_min_conns",
    "pool_min_idle_conns",
    "pool_max_conn_lifetime",
    "pool_max_conn_lifetime_jitter",
    "pool_health_check_period",
    "statement_cache_capacity",
    "description_cache_capacity",
];

pub(super) fn is_url(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

/// Names in lower case, `database` as `dbname`.
pub(super) fn parts(text: &str) -> Result<BTreeMap<String, String>> {
    let mut parts = match text.split_once("://") {
        Some((_, rest)) if is_url(text) => url(rest)?,
        _ => pairs(text)?,
    };
    if let Some(database) = parts.remove("database") {
        parts.insert("dbname".to_owned(), database);
    }
    Ok(parts)
}

fn url(rest: &str) -> Result<BTreeMap<String, String>> {
    let mut parts = BTreeMap::new();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, hosts) = match authority.rsplit_once('@') {
        Some((login, hosts)) => (login, hosts),
        None => ("", authority),
    };
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let mut named = vec![("user", decode(user)?), ("password", decode(password)?)];
    let mut names = Vec::new();
    let mut ports = Vec::new();
    for host in hosts.split(',').filter(|host| !host.is_empty()) {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port),
            _ => (host, ""),
        };
        names.push(decode(name.trim_start_matches('[').trim_end_matches(']'))?);
        ports.push(if port.is_empty() { "5432" } else { port }.to_owned());
    }
    named.push(("host", names.join(",")));
    named.push(("port", ports.join(",")));
    named.push(("dbname", decode(database)?));
    for (name, value) in named {
        if !value.is_empty() {
            parts.insert(name.to_owned(), value);
        }
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        parts.insert(decode(name)?, decode(&value.replace('+', " "))?);
    }
    Ok(parts)
}

fn decode(text: &str) -> Result<String> {
    percent_decode_str(text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| Error::invalid("invalid URL connection string: it does not decode to UTF-8"))
}

/// Values may be quoted by `'`; a backslash takes the next character as it is.
fn pairs(text: &str) -> Result<BTreeMap<String, String>> {
    let mut parts = BTreeMap::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let Some((name, after)) = rest.split_once('=') else {
            return Err(Error::invalid(
                "failed to parse connection string: there must be an = after each name",
            ));
        };
        let (value, after) = value(after.trim_start())?;
        parts.insert(name.trim().to_ascii_lowercase(), value);
        rest = after.trim_start();
    }
    Ok(parts)
}

fn value(text: &str) -> Result<(String, &str)> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut characters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, next)| next)),
            '\'' if quoted => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            space if space.is_whitespace() && !quoted => {
                return Ok((value, text.get(at..).unwrap_or_default()));
            }
            other => value.push(other),
        }
    }
    if quoted {
        return Err(Error::invalid(
            "failed to parse connection string: a quoted value does not end",
        ));
    }
    Ok((value, ""))
}
