//! Incarnations: their leases, their last call, and what they hold.

use std::collections::BTreeMap;

use celeriac_actors::ids::IncarnationId;
use diesel::result::QueryResult;

use super::pack::{Bits, Frames};
use super::sql::{Columns, Db, Value, int};

/// Living.
pub(super) const LIVING: i64 = 0;
/// Closed by a sweep; its deliveries are still to be taken back.
pub(super) const ORPHANED: i64 = 1;
/// Closed, remembered for its identity only.
pub(super) const CLOSED: i64 = 2;

/// An incarnation as it is stored.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) id: i64,
    pub(super) queue: i64,
    pub(super) state: i64,
    pub(super) worker: String,
    pub(super) lease: u64,
    pub(super) call: u64,
    pub(super) first_tag: u64,
    pub(super) handed: u64,
    pub(super) more: bool,
    pub(super) replied_at: u64,
    pub(super) revocations: u64,
    pub(super) stale: Vec<u64>,
}

const FIND: &str = "SELECT id, queue, state, worker, lease, call, first_tag, handed, more, \
    replied_at, revocations, stale FROM incarnations WHERE identity = ?1";
const RENEW: &str = "UPDATE incarnations SET deadline = ?2, boot = ?3 WHERE id = ?1";
const REPLIED: &str = "UPDATE incarnations SET deadline = ?2, boot = ?3, call = ?4, \
    first_tag = ?5, handed = ?6, more = ?7, replied_at = ?8, revocations = ?9, stale = ?10 \
    WHERE id = ?1";
const END: &str = "UPDATE incarnations SET state = ?2, closed_at = ?3, stale = x'' WHERE id = ?1";

impl Life {
    /// Reads an incarnation, living or not.
    pub(super) fn find(db: &mut Db, identity: IncarnationId) -> QueryResult<Option<Self>> {
        db.first(FIND, &[Value::Blob(identity.as_bytes())], Self::read)
    }

    fn read(row: &Columns<'_, '_>) -> Self {
        let tags = |bytes: &[u8]| {
            let (tags, _) = bytes.as_chunks::<8>();
            tags.iter().map(|tag| u64::from_be_bytes(*tag)).collect()
        };
        Self {
            id: row.int(0),
            queue: row.int(1),
            state: row.int(2),
            worker: row.text(3),
            lease: row.count(4),
            call: row.count(5),
            first_tag: row.count(6),
            handed: row.count(7),
            more: row.flag(8),
            replied_at: row.count(9),
            revocations: row.count(10),
            stale: row.with_blob(11, tags),
        }
    }

    /// Lets the lease start again.
    pub(super) fn renew(&self, db: &mut Db, boot_now: u64, boot: &str) -> QueryResult<()> {
        let deadline = int(boot_now.saturating_add(self.lease));
        let values = [Value::Int(self.id), deadline, Value::Text(boot)];
        db.run(RENEW, &values).map(drop)
    }

    /// Remembers the reply of its last call, and lets the lease start again.
    pub(super) fn replied(&self, db: &mut Db, boot_now: u64, boot: &str) -> QueryResult<()> {
        let stale: Vec<u8> = self.stale.iter().flat_map(|tag| tag.to_be_bytes()).collect();
        let values = [
            Value::Int(self.id),
            int(boot_now.saturating_add(self.lease)),
            Value::Text(boot),
            int(self.call),
            int(self.first_tag),
            int(self.handed),
            Value::Int(i64::from(self.more)),
            int(self.replied_at),
            int(self.revocations),
            Value::Blob(&stale),
        ];
        db.run(REPLIED, &values).map(drop)
    }

    /// Ends it: [`ORPHANED`] or [`CLOSED`].
    pub(super) fn end(db: &mut Db, id: i64, state: i64, wall: u64) -> QueryResult<()> {
        let values = [Value::Int(id), Value::Int(state), int(wall)];
        db.run(END, &values).map(drop)
    }
}

/// What one call handed out.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) first_tag: u64,
    tags: u64,
    held: Bits,
    started: Bits,
    pack: i64,
    frames: Option<Vec<Vec<u8>>>,
    changed: bool,
}

const BATCH_AT: &str = "SELECT first_tag, tags, held, started, pack FROM batches \
    WHERE incarnation = ?1 AND first_tag <= ?2 ORDER BY first_tag DESC LIMIT 1";
const BATCHES: &str = "SELECT first_tag, tags, held, started, pack FROM batches \
    WHERE incarnation = ?1 ORDER BY first_tag";
const ADD_BATCH: &str = "INSERT INTO batches (incarnation, first_tag, tags, held, started, pack) \
    VALUES (?1, ?2, ?3, ?4, x'', ?5)";
const SET_BATCH: &str =
    "UPDATE batches SET held = ?3, started = ?4 WHERE incarnation = ?1 AND first_tag = ?2";
const DROP_BATCH: &str = "DELETE FROM batches WHERE incarnation = ?1 AND first_tag = ?2";
const ADD_PACK: &str = "INSERT INTO packs (id, pack) VALUES (?1, ?2)";
const PACK: &str = "SELECT pack FROM packs WHERE id = ?1";
const DROP_PACK: &str = "DELETE FROM packs WHERE id = ?1";

impl Batch {
    pub(super) fn read(row: &Columns<'_, '_>) -> Self {
        Self {
            first_tag: row.count(0),
            tags: row.count(1),
            held: Bits::from_bytes(row.blob(2)),
            started: Bits::from_bytes(row.blob(3)),
            pack: row.int(4),
            frames: None,
            changed: false,
        }
    }

    /// Stores what a call handed out.
    pub(super) fn add(
        db: &mut Db,
        (life, first_tag, tags): (i64, u64, usize),
        (key, pack): (i64, &[u8]),
    ) -> QueryResult<()> {
        let held = Bits::full(tags);
        let values = [
            Value::Int(life),
            int(first_tag),
            int(tags as u64),
            Value::Blob(held.as_bytes()),
            Value::Int(key),
        ];
        db.run(ADD_BATCH, &values)?;
        db.run(ADD_PACK, &[Value::Int(key), Value::Blob(pack)])
            .map(drop)
    }

    /// Returns the tags that are still held, lowest first.
    pub(super) fn held(&self) -> Vec<u64> {
        let positions = 0..usize::try_from(self.tags).unwrap_or_default();
        let held = positions.filter(|at| self.held.has(*at));
        held.map(|at| self.first_tag + at as u64).collect()
    }

    fn position(&self, tag: u64) -> Option<usize> {
        let at = tag.checked_sub(self.first_tag)?;
        usize::try_from(at).ok().filter(|_| at < self.tags)
    }

    /// Returns the frame under `tag`. Reads the pack at the first use.
    pub(super) fn frame(&mut self, db: &mut Db, tag: u64) -> QueryResult<&[u8]> {
        let at = self.position(tag).unwrap_or(usize::MAX);
        if self.frames.is_none() {
            let read = |pack: &[u8]| Frames::new(pack).map(<[u8]>::to_vec).collect();
            let pack = db.first(PACK, &[Value::Int(self.pack)], |row| row.with_blob(0, read))?;
            self.frames = Some(pack.unwrap_or_default());
        }
        let frame = self.frames.as_ref().and_then(|frames| frames.get(at));
        Ok(frame.map_or(&[], Vec::as_slice))
    }
}

/// What one incarnation holds, read as far as it is needed and written back at the end.
#[derive(Debug)]
pub(super) struct Holding {
    life: i64,
    batches: BTreeMap<u64, Batch>,
}

impl Holding {
    /// Begins with nothing read.
    pub(super) const fn new(life: i64) -> Self {
        Self {
            life,
            batches: BTreeMap::new(),
        }
    }

    /// Reads everything that is held; returns the tags, lowest first.
    pub(super) fn load_all(&mut self, db: &mut Db) -> QueryResult<Vec<u64>> {
        for batch in db.all(BATCHES, &[Value::Int(self.life)], Batch::read)? {
            self.batches.entry(batch.first_tag).or_insert(batch);
        }
        Ok(self.batches.values().flat_map(Batch::held).collect())
    }

    fn batch(&mut self, db: &mut Db, tag: u64) -> QueryResult<Option<&mut Batch>> {
        let covers = |batch: &Batch| batch.position(tag).is_some();
        let read = self.batches.range(..=tag).next_back();
        let known = read.filter(|(_, batch)| covers(batch)).map(|(first, _)| *first);
        let first = match known {
            Some(first) => first,
            None => {
                let values = [Value::Int(self.life), int(tag)];
                let found = db.first(BATCH_AT, &values, Batch::read)?;
                let Some(batch) = found.filter(covers) else {
                    return Ok(None);
                };
                let first = batch.first_tag;
                self.batches.entry(first).or_insert(batch);
                first
            }
        };
        Ok(self.batches.get_mut(&first))
    }

    /// Returns whether `tag` is held.
    pub(super) fn has(&mut self, db: &mut Db, tag: u64) -> QueryResult<bool> {
        let batch = self.batch(db, tag)?;
        Ok(batch.is_some_and(|b| b.position(tag).is_some_and(|at| b.held.has(at))))
    }

    /// Takes `tag` out; returns whether it was held.
    pub(super) fn remove(&mut self, db: &mut Db, tag: u64) -> QueryResult<bool> {
        let Some(batch) = self.batch(db, tag)? else {
            return Ok(false);
        };
        let removed = batch.position(tag).is_some_and(|at| batch.held.remove(at));
        batch.changed |= removed;
        Ok(removed)
    }

    /// Puts the start mark on `tag`; returns whether it is held.
    pub(super) fn mark(&mut self, db: &mut Db, tag: u64) -> QueryResult<bool> {
        let Some(batch) = self.batch(db, tag)? else {
            return Ok(false);
        };
        let Some(at) = batch.position(tag).filter(|at| batch.held.has(*at)) else {
            return Ok(false);
        };
        batch.started.insert(at);
        batch.changed = true;
        Ok(true)
    }

    /// Returns whether `tag` has a start mark.
    pub(super) fn is_started(&self, tag: u64) -> bool {
        let found = self.batches.range(..=tag).next_back();
        found.is_some_and(|(_, b)| b.position(tag).is_some_and(|at| b.started.has(at)))
    }

    /// Returns the frame under `tag`, held or just removed; empty when there never was one.
    pub(super) fn frame(&mut self, db: &mut Db, tag: u64) -> QueryResult<&[u8]> {
        match self.batch(db, tag)? {
            Some(batch) => batch.frame(db, tag),
            None => Ok(&[]),
        }
    }

    /// Writes back what changed; batches that are held no more are deleted.
    pub(super) fn store(&self, db: &mut Db) -> QueryResult<()> {
        for batch in self.batches.values().filter(|batch| batch.changed) {
            let place = [Value::Int(self.life), int(batch.first_tag)];
            if batch.held.is_empty() {
                db.run(DROP_BATCH, &place)?;
                db.run(DROP_PACK, &[Value::Int(batch.pack)])?;
            } else {
                let [life, first] = place;
                let held = Value::Blob(batch.held.as_bytes());
                let started = Value::Blob(batch.started.as_bytes());
                db.run(SET_BATCH, &[life, first, held, started])?;
            }
        }
        Ok(())
    }
}
