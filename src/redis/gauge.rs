//! What a server says of itself, and the end of a namespace: for those who measure in one of their own.

use std::time::Duration;

use celeriac_actors::ids::QueueName;
use celeriac_actors::ports::BrokerError;
use redis::{Cmd, Value};

use super::decode;
use super::{RedisBroker, Reply};

/// The keys of a queue whose names hold nothing but the queue's.
const OF_QUEUE: [&str; 25] = [
    "",
    "r0",
    "r1",
    "r2",
    "r3",
    "r4",
    "r5",
    "r6",
    "r7",
    "r8",
    "r9",
    "leases",
    "lives",
    "closed",
    "orphans",
    "scheduled",
    "retrying",
    "dead",
    "revoked",
    "results",
    "wake",
    "due",
    "bell",
    "counters",
    "news",
];
/// The keys of a queue that there is one of for each incarnation.
const OF_INCARNATION: [&str; 3] = ["f:", "m:", "i:"];

/// What a server has used so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerUsage {
    /// Its version.
    pub version: String,
    /// Bytes of memory its data takes.
    pub used_memory: u64,
    /// How many deleted keys are still to be freed: their memory counts as used until then.
    pub unfreed: u64,
    /// Time that its threads have spent, in the program and in the system.
    pub cpu: Duration,
    /// How many scripts it was called for.
    pub scripts: u64,
    /// Whether it writes an append-only file.
    pub append_only: bool,
}

impl RedisBroker {
    /// Asks the server what it has used.
    ///
    /// # Errors
    /// [`BrokerError`] when it cannot be asked.
    pub async fn usage(&self) -> Result<ServerUsage, BrokerError> {
        let mut command = redis::cmd("INFO");
        for section in ["server", "memory", "cpu", "persistence", "commandstats"] {
            command.arg(section);
        }
        let reply = self.query(&self.keys.registry(), &command).await?;
        Ok(read(&decode::text(info(reply))?))
    }

    /// Deletes every key of `queues`, and what the namespace has beside them: all tasks are gone. What is remembered of
    /// producers' last calls ends by itself.
    ///
    /// # Errors
    /// [`BrokerError`]; some of it may be left then.
    pub async fn erase(&self, queues: &[QueueName]) -> Result<(), BrokerError> {
        for queue in queues {
            let mut doomed: Vec<String> = Vec::new();
            for of in ["lives", "orphans"] {
                let key = self.keys.of(queue, of);
                let mut command = redis::cmd("HKEYS");
                command.arg(&key);
                self.note_incarnations(queue, &key, &command, &mut doomed)
                    .await?;
            }
            let key = self.keys.of(queue, "closed");
            let mut command = redis::cmd("ZRANGE");
            command.arg(&key).arg(0).arg(-1);
            self.note_incarnations(queue, &key, &command, &mut doomed)
                .await?;
            doomed.extend(OF_QUEUE.iter().map(|suffix| self.keys.of(queue, suffix)));
            self.delete(&doomed).await?;
        }
        let beside = [
            self.keys.registry(),
            self.keys.workers(),
            self.keys.generation(),
            self.keys.schema(),
        ];
        self.delete(&beside).await
    }

    async fn note_incarnations(
        &self,
        queue: &QueueName,
        key: &str,
        command: &Cmd,
        doomed: &mut Vec<String>,
    ) -> Reply<()> {
        let ids = match self.query(key, command).await? {
            Value::Array(ids) | Value::Set(ids) => ids,
            other => return Err(decode::strange(&format!("{other:?} is no list"))),
        };
        for id in ids {
            let id = decode::text(id)?;
            let of_it = OF_INCARNATION.iter();
            doomed.extend(of_it.map(|prefix| self.keys.of(queue, &format!("{prefix}{id}"))));
        }
        Ok(())
    }

    async fn delete(&self, keys: &[String]) -> Reply<()> {
        let Some(first) = keys.first() else {
            return Ok(());
        };
        let mut command = redis::cmd("DEL");
        command.arg(keys);
        self.query(first, &command).await.map(drop)
    }
}

/// Returns the text of a reply that newer servers mark as text.
fn info(reply: Value) -> Value {
    match reply {
        Value::VerbatimString { text, .. } => Value::SimpleString(text),
        other => other,
    }
}

fn read(info: &str) -> ServerUsage {
    let field = |name: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let seconds = |name: &str| {
        let text = field(name).and_then(|text| text.trim().parse().ok());
        Duration::try_from_secs_f64(text.unwrap_or_default()).unwrap_or_default()
    };
    let number = |name: &str| {
        let text = field(name).and_then(|text| text.trim().parse().ok());
        text.unwrap_or_default()
    };
    let calls = |name: &str| -> u64 {
        let calls = field(name).and_then(|text| text.strip_prefix("calls="));
        let number = calls.and_then(|text| text.split(',').next()?.parse().ok());
        number.unwrap_or_default()
    };
    ServerUsage {
        version: field("redis_version").unwrap_or_default().trim().to_owned(),
        used_memory: number("used_memory"),
        unfreed: number("lazyfree_pending_objects"),
        cpu: seconds("used_cpu_user") + seconds("used_cpu_sys"),
        scripts: calls("cmdstat_evalsha") + calls("cmdstat_eval"),
        append_only: field("aof_enabled").is_some_and(|text| text.trim() == "1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_tells_what_it_has_used() {
        let info = "# Server\r\nredis_version:7.0.15\r\nused_memory:1024\r\nused_memory_rss:9\r\n\
            lazyfree_pending_objects:3\r\nused_cpu_sys:1.5\r\nused_cpu_user:2.25\r\n\
            used_cpu_sys_children:7\r\naof_enabled:1\r\ncmdstat_evalsha:calls=12,usec=3\r\n";
        let usage = ServerUsage {
            version: "7.0.15".to_owned(),
            used_memory: 1_024,
            unfreed: 3,
            cpu: Duration::from_millis(3_750),
            scripts: 12,
            append_only: true,
        };
        assert_eq!(read(info), usage);
        assert_eq!(read("nothing known"), ServerUsage::default());
    }
}
