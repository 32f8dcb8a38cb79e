//! One transaction of the writer: the steps of many callers share it, and what they cause is told after its commit.

use std::time::Duration;

use celeriac_actors::header::{Header, Priority};
use celeriac_actors::ids::{QueueName, TaskId, WorkerId};
use celeriac_actors::lease::FinalRecord;
use celeriac_actors::ports::{BrokerError, Wake, id_of};
use celeriac_actors::state::DeadReason;
use celeriac_actors::time::{Timestamp, millis};
use diesel::result::QueryResult;

use super::errors::StepError;
use super::pack::{PACK_BYTES, PACK_FRAMES, push};
use super::queue::{MAX_QUEUES, Queue};
use super::sql::{Db, Value, int};

/// What every transaction needs and none changes.
#[derive(Debug)]
pub(super) struct Context {
    /// Which boot the leases belong to.
    pub(super) boot: String,
    /// The lock files.
    pub(super) locks: std::path::PathBuf,
    /// The worker this process is.
    pub(super) worker: Option<WorkerId>,
    /// The largest frame that is taken.
    pub(super) max_frame: usize,
}

/// What a commit has to tell.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Whom it wakes.
    pub(super) wakes: Vec<Wake>,
    /// Of which tasks something is kept now.
    pub(super) finished: Vec<(QueueName, TaskId)>,
    /// Whose wake tokens it takes back.
    pub(super) silenced: Vec<QueueName>,
    /// Roughly how many bytes it wrote.
    pub(super) written: usize,
}

impl Effects {
    /// Adds a wake unless it is there.
    pub(super) fn wake(&mut self, wake: Wake) {
        if !self.wakes.contains(&wake) {
            self.wakes.push(wake);
        }
    }
}

/// A queue within a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Q(usize);

/// One transaction.
pub(super) struct Tx<'a> {
    pub(super) db: &'a mut Db,
    pub(super) context: &'a Context,
    /// The wall clock, read once.
    pub(super) now: Timestamp,
    /// The boot-time clock in milliseconds, read once.
    pub(super) boot_now: u64,
    /// Whether the step must survive a power cut before it is acknowledged. Set by steps, looked at after each.
    pub(super) durable: bool,
    pub(super) effects: Effects,
    queues: Vec<Queue>,
    /// Packs that are not full yet.
    open: Vec<Stack>,
}

/// A frame on its way into the ready list, with where it goes.
type Ranked = (u8, Vec<u8>);

/// A dead task on its way to the outbox.
#[derive(Debug)]
pub(super) struct Burial<'a> {
    pub(super) frame: &'a [u8],
    pub(super) reason: DeadReason,
    pub(super) note: &'a str,
    pub(super) worker: &'a str,
}

const ADD_READY: &str = "INSERT INTO ready (key, pack) VALUES (?1, ?2)";
const FIRST_DUE: &str = "SELECT due FROM waiting WHERE queue = ?1 ORDER BY due LIMIT 1";
const ADD_WAITING: &str =
    "INSERT INTO waiting (queue, due, serial, retrying, frame) VALUES (?1, ?2, ?3, ?4, ?5)";
const BURY: &str = "INSERT INTO dead_outbox (queue, task, reason, note, frame, buried_at, worker) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const KEEP: &str = "INSERT OR REPLACE INTO results \
    (queue, task, state, body, attempts, ttl, forget_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

impl<'a> Tx<'a> {
    /// Begins to collect; the database's own transaction is open.
    pub(super) fn new(db: &'a mut Db, context: &'a Context, now: (Timestamp, Duration)) -> Self {
        Self {
            db,
            context,
            now: now.0,
            boot_now: millis(now.1),
            durable: false,
            effects: Effects::default(),
            queues: Vec::new(),
            open: Vec::new(),
        }
    }

    /// Writes everything back; returns what to tell after the commit.
    pub(super) fn finish(mut self) -> QueryResult<Effects> {
        for at in 0..self.queues.len() {
            self.flush(Q(at))?;
        }
        for queue in &self.queues {
            queue.store(self.db)?;
        }
        Ok(self.effects)
    }

    /// Finds a queue that was heard of.
    pub(super) fn find(&mut self, name: &QueueName) -> QueryResult<Option<Q>> {
        if let Some(at) = self.queues.iter().position(|queue| queue.name == *name) {
            return Ok(Some(Q(at)));
        }
        let Some(queue) = Queue::load(self.db, name)? else {
            return Ok(None);
        };
        self.queues.push(queue);
        Ok(Some(Q(self.queues.len() - 1)))
    }

    /// Finds a queue, which is heard of from now on.
    pub(super) fn queue(&mut self, name: &QueueName) -> Result<Q, StepError> {
        if let Some(queue) = self.find(name)? {
            return Ok(queue);
        }
        if self.db.number("SELECT count(*) FROM queues")? >= MAX_QUEUES {
            let full = format!("there are {MAX_QUEUES} queues already");
            return Err(BrokerError::Invalid(full).into());
        }
        Queue::create(self.db, name)?;
        let made = self.find(name)?;
        made.ok_or_else(|| StepError::Sql(diesel::result::Error::NotFound))
    }

    /// Returns a queue's state.
    pub(super) fn at(&mut self, queue: Q) -> &mut Queue {
        &mut self.queues[queue.0]
    }

    /// Wakes consumers if there is something to fetch.
    pub(super) fn ring(&mut self, queue: Q) {
        let queue = &self.queues[queue.0];
        if queue.has_work() {
            self.effects.wake(Wake::Ready(queue.name.clone()));
        }
    }

    /// Makes frames ready behind the others of their priority, in their order.
    ///
    /// Steps of one transaction fill the same packs; those that are not full are written by [`flush`](Self::flush).
    pub(super) fn push_back<'f>(
        &mut self,
        queue: Q,
        frames: impl IntoIterator<Item = (u8, &'f [u8])>,
    ) -> QueryResult<()> {
        for (rank, frame) in frames {
            self.at(queue).ready += 1;
            let open = self
                .open
                .iter()
                .position(|s| (s.queue, s.rank) == (queue, rank));
            let at = open.unwrap_or_else(|| {
                self.open.push(Stack::new(queue, rank));
                self.open.len() - 1
            });
            self.open[at].push(frame);
            if self.open[at].is_full() {
                let full = self.open.swap_remove(at);
                self.add_pack(&full, false)?;
            }
        }
        Ok(())
    }

    /// Writes the packs of a queue that are not full. To be called before its ready list is read.
    pub(super) fn flush(&mut self, queue: Q) -> QueryResult<()> {
        while let Some(at) = self.open.iter().position(|stack| stack.queue == queue) {
            let stack = self.open.swap_remove(at);
            self.add_pack(&stack, false)?;
        }
        Ok(())
    }

    /// Makes frames ready before the others of their priority; the first of them comes first.
    pub(super) fn push_front(&mut self, queue: Q, frames: &[Ranked]) -> QueryResult<()> {
        for rank in 0..10 {
            let mut packs: Vec<Stack> = Vec::new();
            for (_, frame) in frames.iter().filter(|(of, _)| *of == rank) {
                if packs.last().is_none_or(Stack::is_full) {
                    packs.push(Stack::new(queue, rank));
                }
                if let Some(last) = packs.last_mut() {
                    last.push(frame);
                }
            }
            for stack in packs.iter().rev() {
                self.add_pack(stack, true)?;
            }
        }
        self.at(queue).ready += frames.len() as u64;
        Ok(())
    }

    fn add_pack(&mut self, stack: &Stack, front: bool) -> QueryResult<()> {
        let state = self.at(stack.queue);
        let key = if front {
            state.key_before(stack.rank)
        } else {
            state.key_behind(stack.rank)
        };
        self.effects.written += stack.pack.len();
        let values = [Value::Int(key), Value::Blob(&stack.pack)];
        self.db.run(ADD_READY, &values).map(drop)
    }

    /// Lets a task wait until `due`, and rings when nothing else is due as early.
    pub(super) fn push_waiting(
        &mut self,
        queue: Q,
        due: Timestamp,
        (frame, retrying): (&[u8], bool),
    ) -> QueryResult<()> {
        let state = self.at(queue);
        let (id, serial) = (state.id, state.next_serial());
        *if retrying {
            &mut state.retrying
        } else {
            &mut state.scheduled
        } += 1;
        let name = state.name.clone();
        let first = self
            .db
            .first(FIRST_DUE, &[Value::Int(id)], |row| row.count(0))?;
        if first.is_none_or(|first| due.as_millis() < first) {
            self.effects.wake(Wake::Due(name));
        }
        self.effects.written += frame.len();
        let values = [
            Value::Int(id),
            int(due.as_millis()),
            Value::Int(serial),
            Value::Int(i64::from(retrying)),
            Value::Blob(frame),
        ];
        self.db.run(ADD_WAITING, &values).map(drop)
    }

    /// Moves a task to the dead outbox.
    pub(super) fn bury(&mut self, queue: Q, burial: &Burial<'_>) -> QueryResult<()> {
        self.durable = true;
        let task = id_of(burial.frame).unwrap_or_else(TaskId::fresh);
        let state = self.at(queue);
        state.dead_outbox += 1;
        state.counters.dead += 1;
        let id = state.id;
        self.effects.wake(Wake::Dead);
        self.effects.written += burial.frame.len();
        let values = [
            Value::Int(id),
            Value::Blob(task.as_bytes()),
            Value::Text(burial.reason.as_str()),
            Value::Text(burial.note),
            Value::Blob(burial.frame),
            int(self.now.as_millis()),
            Value::Text(burial.worker),
        ];
        self.db.run(BURY, &values).map(drop)
    }

    /// Keeps what is to be known of a task that ended.
    pub(super) fn keep(&mut self, queue: Q, record: &FinalRecord) -> QueryResult<()> {
        let (id, name) = (self.at(queue).id, self.at(queue).name.clone());
        self.effects.finished.push((name, record.id));
        let body = record.stored_body();
        self.effects.written += body.len() + 64;
        let values = [
            Value::Int(id),
            Value::Blob(record.id.as_bytes()),
            Value::Text(record.state.as_str()),
            Value::Blob(&body),
            Value::Int(i64::from(record.attempts)),
            int(millis(record.ttl)),
            int(self.now.plus(record.ttl).as_millis()),
        ];
        self.db.run(KEEP, &values).map(drop)
    }
}

/// Frames of one rank that become a pack.
#[derive(Debug)]
struct Stack {
    queue: Q,
    rank: u8,
    frames: usize,
    pack: Vec<u8>,
}

impl Stack {
    const fn new(queue: Q, rank: u8) -> Self {
        Self {
            queue,
            rank,
            frames: 0,
            pack: Vec::new(),
        }
    }

    fn push(&mut self, frame: &[u8]) {
        push(&mut self.pack, frame);
        self.frames += 1;
    }

    const fn is_full(&self) -> bool {
        self.frames >= PACK_FRAMES || self.pack.len() >= PACK_BYTES
    }
}

/// Returns where a frame stands among the priorities: 0 is fetched first. One without a header counts as normal.
pub(super) fn rank_of(frame: &[u8]) -> u8 {
    let priority = Header::read(frame).map_or(Priority::NORMAL, |header| header.priority);
    rank(priority)
}

/// Returns where a priority stands: 0 is fetched first.
pub(super) const fn rank(priority: Priority) -> u8 {
    Priority::HIGHEST.level() - priority.level()
}
