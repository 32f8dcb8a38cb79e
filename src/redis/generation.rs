//! The generation: a random word that whoever comes first writes. When it is another one, the data was wiped.

use std::sync::{Mutex, PoisonError};

use redis::{Cmd, Value};

use super::fault::Fault;
use super::link::{Links, Slot};
use super::options::RedisOptions;
use super::topology::slots::{slot_of, text};

/// The generation that was seen last.
#[derive(Debug)]
pub(super) struct Generation {
    key: String,
    slot: Slot,
    log: slog::Logger,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    word: Option<String>,
    /// How many connections there had been: without a new one, nothing can have changed unseen.
    connections: u64,
}

impl Generation {
    pub(super) fn new(options: &RedisOptions) -> Self {
        let key = format!("{}:{{celeriac}}:generation", options.url.namespace());
        Self {
            slot: slot_of(key.as_bytes()),
            key,
            log: options.log.clone(),
            seen: Mutex::default(),
        }
    }

    /// Reads the generation, when a connection was made since the last time; returns whether it is another one.
    ///
    /// A change is logged once. Cheap while no connection is lost, so that every beat may call it.
    pub(super) async fn look(&self, links: &Links) -> Result<bool, Fault> {
        let connections = links.connections();
        {
            let seen = self.lock();
            if seen.word.is_some() && seen.connections == connections {
                return Ok(false);
            }
        }
        let fresh = uuid::Uuid::new_v4().simple().to_string();
        // Read first: a write is refused when memory is at its limit, whatever is there.
        let mut there = links.send(self.slot, &self.read()).await?;
        if there == Value::Nil {
            there = links.send(self.slot, &self.claim(&fresh)).await?;
        }
        let word = match there {
            Value::Nil => fresh,
            there => text(&there).unwrap_or_default().to_owned(),
        };
        let mut seen = self.lock();
        // As it was before the question: our own new connection makes us ask once more, which is no harm.
        seen.connections = connections;
        let before = seen.word.replace(word.clone());
        drop(seen);
        let wiped = before.as_ref().is_some_and(|before| *before != word);
        if wiped {
            slog::error!(self.log, "the broker's data was wiped or replaced: tasks that were in it are not run unless they are \
                enqueued again, or their data restored with all workers stopped; going on with what is there";
                "generation" => word, "before" => before.unwrap_or_default());
        }
        Ok(wiped)
    }

    fn read(&self) -> Cmd {
        let mut command = redis::cmd("GET");
        command.arg(&self.key);
        command
    }

    /// Writes our word where there is none; answers with what was there.
    fn claim(&self, fresh: &str) -> Cmd {
        let mut command = redis::cmd("SET");
        command.arg(&self.key).arg(fresh).arg("NX").arg("GET");
        command
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
