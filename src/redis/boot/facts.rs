//! What a server tells about itself.

use std::collections::HashMap;
use std::time::Duration;

use celeriac_actors::time::{Clock as _, Timestamp};
use redis::Value;

use crate::clock::SystemClock;
use crate::redis::fault::{Class, Fault};
use crate::redis::link::Links;
use crate::redis::node::Node;
use crate::redis::topology::slots::text;

/// What a server tells about itself.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) node: Node,
    pub(super) version: String,
    /// `standalone`, `cluster` or `sentinel`.
    pub(super) mode: String,
    /// Whose replica it is.
    pub(super) master: Option<String>,
    /// The limit of memory in bytes; 0 for none.
    pub(super) maxmemory: u64,
    pub(super) policy: String,
    pub(super) append_only: bool,
    pub(super) last_write_failed: bool,
    /// The settings, where the user may read them.
    pub(super) settings: Option<HashMap<String, String>>,
    /// How far its clock is ahead of ours, and behind it.
    pub(super) ahead: Duration,
    pub(super) behind: Duration,
}

impl Facts {
    pub(super) async fn gather(links: &Links, node: Node) -> Result<Self, Fault> {
        let info = links.send_to(&node, &redis::cmd("INFO")).await?;
        let info = fields(text(&info).unwrap_or_default());
        if info.get("loading").is_some_and(|loading| *loading != "0") {
            // Until it has read its data back, it says of itself what is not so: that it writes no log, for one.
            return Err(Fault::new(Class::Loading, "the server is loading its data").at(&node));
        }
        let mut names = redis::cmd("CONFIG");
        names.arg("GET").arg(SETTINGS);
        let settings = match links.send_to(&node, &names).await {
            Ok(answer) => pairs(&answer),
            // Managed servers keep their settings to themselves.
            Err(fault)
                if matches!(fault.class, Class::Denied | Class::Invalid | Class::Strange) =>
            {
                None
            }
            Err(fault) => return Err(fault),
        };
        let before = SystemClock.now();
        let time = links.send_to(&node, &redis::cmd("TIME")).await?;
        let after = SystemClock.now();
        let time = instant(&time).unwrap_or(after);
        let field = |name: &str| info.get(name).copied().unwrap_or_default();
        Ok(Self {
            version: field("redis_version").to_owned(),
            mode: field("redis_mode").to_owned(),
            master: (field("role") == "slave")
                .then(|| format!("{}:{}", field("master_host"), field("master_port"))),
            maxmemory: field("maxmemory").parse().unwrap_or_default(),
            policy: field("maxmemory_policy").to_owned(),
            append_only: field("aof_enabled") == "1",
            last_write_failed: field("aof_last_write_status") == "err",
            settings,
            ahead: time.since(after),
            behind: before.since(time),
            node,
        })
    }

    /// Returns a setting, where the user may read it.
    pub(super) fn setting(&self, name: &str) -> Option<&str> {
        self.settings.as_ref()?.get(name).map(String::as_str)
    }

    /// Returns the version as numbers to compare.
    pub(super) fn release(&self) -> (u32, u32, u32) {
        let mut numbers = self
            .version
            .split('.')
            .map(|part| part.parse().unwrap_or_default());
        let mut next = || numbers.next().unwrap_or_default();
        (next(), next(), next())
    }
}

/// The settings that are asked for.
const SETTINGS: &[&str] = &["appendfsync", "save", "no-appendfsync-on-rewrite"];

/// Reads the lines `name:value` of `INFO`.
fn fields(info: &str) -> HashMap<&str, &str> {
    info.lines()
        .filter_map(|line| line.trim_end().split_once(':'))
        .collect()
}

fn pairs(answer: &Value) -> Option<HashMap<String, String>> {
    let pair =
        |name: &Value, value: &Value| Some((text(name)?.to_owned(), text(value)?.to_owned()));
    match answer {
        Value::Array(flat) => flat
            .chunks_exact(2)
            .map(|two| pair(&two[0], &two[1]))
            .collect(),
        Value::Map(map) => map.iter().map(|(name, value)| pair(name, value)).collect(),
        _ => None,
    }
}

/// Reads the answer to `TIME`: seconds and microseconds.
fn instant(answer: &Value) -> Option<Timestamp> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let [seconds, micros] = parts.as_slice() else {
        return None;
    };
    let seconds = Duration::from_secs(text(seconds)?.parse().ok()?);
    let micros = Duration::from_micros(text(micros)?.parse().ok()?);
    Some(Timestamp::EPOCH.plus(seconds + micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let info = fields(
            "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\n\r\n# Memory\r\nmaxmemory:0\r\n",
        );
        assert_eq!(info["redis_version"], "7.0.15");
        assert_eq!(info["maxmemory"], "0");
        let bulk = |text: &str| Value::BulkString(text.into());
        let time = Value::Array(vec![bulk("1700000000"), bulk("250000")]);
        assert_eq!(
            instant(&time),
            Some(Timestamp::from_millis(1_700_000_000_250))
        );
        assert_eq!(instant(&Value::Nil), None);
        let settings = pairs(&Value::Array(vec![bulk("save"), bulk("")])).unwrap();
        assert_eq!(settings["save"], "");
    }
}
