//! The one script that writes: checks the tags of all its steps, then performs them all.

use crate::client::{Client, Repeat};
use crate::script::Script;
use bytes::Bytes;
use outrigger_component::error::{Error, Kind, Result};
use outrigger_component::state::{Concurrency, Delete, Set, Ttl, ttl};
use redis::{Cmd, RedisResult};

/// Per key: what to do, the tag it asks for (`0` is none), whether it asks for absence, the lifetime (`0` is to leave
/// it, negative is none), the value. Answers 0, or the number of the step whose tag does not match.
pub(super) const SCRIPT: &str = r#"
local foreign = {}
for i, key in ipairs(KEYS) do
  local at = (i - 1) * 5
  local set, tag, first = ARGV[at + 1] == "set", ARGV[at + 2], ARGV[at + 3] == "1"
  local version = redis.pcall("HGET", key, "version")
  if type(version) == "table" then
    foreign[i] = true
  elseif version and version ~= "" then
    if tag ~= "0" then
      if version ~= tag then return i end
    elseif set and (first or redis.call("HEXISTS", key, "first-write") == 1) then
      return i
    end
  end
end
for i, key in ipairs(KEYS) do
  local at = (i - 1) * 5
  if ARGV[at + 1] == "set" then
    if foreign[i] then redis.call("DEL", key) end
    redis.call("HSET", key, "data", ARGV[at + 5])
    if ARGV[at + 3] == "1" then redis.call("HSET", key, "first-write", 0) end
    redis.call("HINCRBY", key, "version", 1)
    local ttl = tonumber(ARGV[at + 4])
    if ttl > 0 then redis.call("EXPIRE", key, ttl) elseif ttl < 0 then redis.call("PERSIST", key) end
  else
    redis.call("DEL", key)
  end
end
return 0
"#;

/// One change.
pub(super) struct Step {
    key: String,
    /// Empty for none.
    tag: String,
    first_write: bool,
    /// `None` deletes.
    set: Option<(Bytes, i64)>,
}

impl Step {
    /// # Errors
    /// `EtagInvalid` if the tag is not one of ours, `Invalid` if the lifetime is no number.
    pub(super) fn set(set: Set, default_ttl: Option<i64>) -> Result<Self> {
        let ttl = match ttl(&set.metadata)? {
            Ttl::Seconds(seconds) => i64::from(seconds),
            Ttl::Never => -1,
            Ttl::Unset => default_ttl.map_or(0, |seconds| if seconds > 0 { seconds } else { -1 }),
        };
        let tag = set
            .etag
            .filter(|_| set.concurrency != Concurrency::LastWrite)
            .unwrap_or_default();
        if !tag.is_empty() && tag.parse::<i64>().is_err() {
            return Err(Error::new(
                Kind::EtagInvalid,
                format!("invalid etag value: {tag:?} is not a number"),
            ));
        }
        Ok(Self {
            key: set.key,
            tag,
            first_write: set.concurrency == Concurrency::FirstWrite,
            set: Some((set.value, ttl)),
        })
    }

    pub(super) fn delete(delete: Delete) -> Self {
        Self {
            key: delete.key,
            tag: delete.etag.unwrap_or_default(),
            first_write: false,
            set: None,
        }
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn verb(&self) -> &'static str {
        if self.set.is_some() { "set" } else { "delete" }
    }

    /// Whether doing it twice differs from doing it once.
    pub(super) fn is_guarded(&self) -> bool {
        self.first_write || !self.tag.is_empty()
    }
}

/// Answers 0, or the number of the step whose tag does not match.
///
/// # Errors
/// The server's.
pub(super) async fn run(
    script: &Script,
    client: &Client,
    steps: &[Step],
    repeat: Repeat,
) -> RedisResult<i64> {
    let size = steps
        .iter()
        .map(|step| step.key.len() + step.set.as_ref().map_or(0, |(value, _)| value.len()) + 40)
        .sum();
    script.run(client, repeat, size, |cmd| fill(cmd, steps)).await
}

fn fill(cmd: &mut Cmd, steps: &[Step]) {
    cmd.arg(steps.len());
    for step in steps {
        cmd.arg(&step.key);
    }
    for step in steps {
        let tag = if step.tag.is_empty() { "0" } else { &step.tag };
        // Absence is asked for only where no tag says more.
        let first = if step.first_write { "1" } else { "0" };
        match &step.set {
            Some((value, ttl)) => cmd.arg("set").arg(tag).arg(first).arg(ttl).arg(&value[..]),
            None => cmd.arg("delete").arg(tag).arg("0").arg(0).arg(""),
        };
    }
}
