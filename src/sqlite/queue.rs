//! A queue as a transaction sees it: read once, changed in memory, written once at the end.

use celeriac_actors::ids::QueueName;
use celeriac_actors::ports::Counters;
use diesel::result::QueryResult;

use super::sql::{Columns, Db, Value, int};

/// Places of ready packs are counted from here, the first ones downwards, the last ones upwards.
const MIDDLE: i64 = 1 << 43;
/// How many bits a place has within a key.
const PLACE_BITS: u32 = 44;
/// How many bits a serial has within a key.
const SERIAL_BITS: u32 = 48;
/// The most queues of a database: their number takes the upper bits of keys.
pub(super) const MAX_QUEUES: i64 = (1 << 15) - 1;

const SELECT: &str = "SELECT id, paused, revocations, swept_at, swept_boot, front, back, serial, \
    ready, scheduled, retrying, active, dead_outbox, \
    enqueued, succeeded, dead, cancelled, expired, retried, released, rescued, revived, stale \
    FROM queues WHERE name = ?1";
const INSERT: &str = "INSERT INTO queues (name, front, back) VALUES (?1, ?2, ?3)";
const UPDATE: &str = "UPDATE queues SET paused = ?2, revocations = ?3, swept_at = ?4, \
    swept_boot = ?5, front = ?6, back = ?7, serial = ?8, \
    ready = ?9, scheduled = ?10, retrying = ?11, active = ?12, dead_outbox = ?13, \
    enqueued = ?14, succeeded = ?15, dead = ?16, cancelled = ?17, expired = ?18, \
    retried = ?19, released = ?20, rescued = ?21, revived = ?22, stale = ?23 WHERE id = ?1";

/// One queue.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    pub(super) id: i64,
    pub(super) name: QueueName,
    pub(super) paused: bool,
    pub(super) revocations: u64,
    pub(super) swept_at: u64,
    pub(super) swept_boot: String,
    front: i64,
    back: i64,
    serial: i64,
    pub(super) ready: u64,
    pub(super) scheduled: u64,
    pub(super) retrying: u64,
    pub(super) active: u64,
    pub(super) dead_outbox: u64,
    pub(super) counters: Counters,
}

/// Reads the counters of a queue, from column `at` on.
pub(super) fn counters(row: &Columns<'_, '_>, at: usize) -> Counters {
    Counters {
        enqueued: row.count(at),
        succeeded: row.count(at + 1),
        dead: row.count(at + 2),
        cancelled: row.count(at + 3),
        expired: row.count(at + 4),
        retried: row.count(at + 5),
        released: row.count(at + 6),
        rescued: row.count(at + 7),
        revived: row.count(at + 8),
        stale: row.count(at + 9),
        // A step that finds no room is refused whole.
        result_dropped: 0,
    }
}

impl Queue {
    /// Reads a queue, if it was heard of.
    pub(super) fn load(db: &mut Db, name: &QueueName) -> QueryResult<Option<Self>> {
        let found = db.first(SELECT, &[Value::Text(name.as_str())], |row| Self {
            id: row.int(0),
            name: name.clone(),
            paused: row.flag(1),
            revocations: row.count(2),
            swept_at: row.count(3),
            swept_boot: row.text(4),
            front: row.int(5),
            back: row.int(6),
            serial: row.int(7),
            ready: row.count(8),
            scheduled: row.count(9),
            retrying: row.count(10),
            active: row.count(11),
            dead_outbox: row.count(12),
            counters: counters(row, 13),
        })?;
        Ok(found.map(|mut queue| {
            if queue.ready == 0 {
                // An empty list starts over: places never run out.
                (queue.front, queue.back) = (MIDDLE, MIDDLE + 1);
            }
            queue
        }))
    }

    /// Makes a queue known.
    pub(super) fn create(db: &mut Db, name: &QueueName) -> QueryResult<()> {
        let ends = [
            Value::Text(name.as_str()),
            Value::Int(MIDDLE),
            Value::Int(MIDDLE + 1),
        ];
        db.run(INSERT, &ends).map(drop)
    }

    /// Writes everything that may have changed.
    pub(super) fn store(&self, db: &mut Db) -> QueryResult<()> {
        let c = &self.counters;
        let values = [
            Value::Int(self.id),
            Value::Int(i64::from(self.paused)),
            int(self.revocations),
            int(self.swept_at),
            Value::Text(&self.swept_boot),
            Value::Int(self.front),
            Value::Int(self.back),
            Value::Int(self.serial),
            int(self.ready),
            int(self.scheduled),
            int(self.retrying),
            int(self.active),
            int(self.dead_outbox),
            int(c.enqueued),
            int(c.succeeded),
            int(c.dead),
            int(c.cancelled),
            int(c.expired),
            int(c.retried),
            int(c.released),
            int(c.rescued),
            int(c.revived),
            int(c.stale),
        ];
        db.run(UPDATE, &values).map(drop)
    }

    /// Returns the key of a new pack behind all others of `rank` (0 is fetched first).
    pub(super) fn key_behind(&mut self, rank: u8) -> i64 {
        self.back += 1;
        self.key(rank, self.back - 1)
    }

    /// Returns the key of a new pack before all others of `rank`.
    pub(super) fn key_before(&mut self, rank: u8) -> i64 {
        self.front -= 1;
        self.key(rank, self.front + 1)
    }

    fn key(&self, rank: u8, place: i64) -> i64 {
        (self.id << SERIAL_BITS) | (i64::from(rank) << PLACE_BITS) | place
    }

    /// Returns the lowest and the highest key that its ready packs may have.
    pub(super) const fn keys(&self) -> (i64, i64) {
        keys_of(self.id)
    }

    /// Returns a number never given before, for what waits.
    pub(super) const fn next_serial(&mut self) -> i64 {
        self.serial += 1;
        self.serial
    }

    /// Returns the key of a new pack in flight.
    pub(super) const fn pack_key(&mut self) -> i64 {
        (self.id << SERIAL_BITS) | self.next_serial()
    }

    /// Returns whether a fetch would find something.
    pub(super) const fn has_work(&self) -> bool {
        self.ready > 0 && !self.paused
    }
}

/// Returns the lowest and the highest key that ready packs of the queue `id` may have.
pub(super) const fn keys_of(id: i64) -> (i64, i64) {
    (
        id << SERIAL_BITS,
        (id << SERIAL_BITS) | ((1 << SERIAL_BITS) - 1),
    )
}
