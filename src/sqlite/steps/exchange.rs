//! The numbered call: settle what finished, fetch what is next.

use std::ops::ControlFlow;
use std::sync::Arc;

use celeriac_actors::fence::{Numbered, check_exchange, judge_exchange};
use celeriac_actors::lease::{Delivery, ExchangeCall, Exchanged};
use celeriac_actors::ports::BrokerError;
use celeriac_actors::time::Timestamp;
use diesel::result::QueryResult;

use super::Step;
use super::settle::{Settling, contradiction};
use crate::sqlite::errors::StepError;
use crate::sqlite::lives::{Batch, Holding, LIVING, Life};
use crate::sqlite::pack::{Frames, push};
use crate::sqlite::sql::{Value, int};
use crate::sqlite::tx::{Q, Tx};

const READY: &str = "SELECT key, pack FROM ready WHERE key BETWEEN ?1 AND ?2 ORDER BY key LIMIT ?3";
const TAKEN: &str = "DELETE FROM ready WHERE key BETWEEN ?1 AND ?2";
const REST: &str = "UPDATE ready SET pack = ?2 WHERE key = ?1";
const OVERLAP: &str = "SELECT first_tag + tags FROM batches \
    WHERE incarnation = ?1 AND first_tag < ?2 ORDER BY first_tag DESC LIMIT 1";

/// [`Broker::exchange`](celeriac_actors::ports::Broker::exchange).
#[derive(Debug)]
pub(in crate::sqlite) struct Exchange(pub(in crate::sqlite) Arc<ExchangeCall>);

impl Step for Exchange {
    type Reply = Exchanged;

    fn run(&self, tx: &mut Tx<'_>) -> Result<Exchanged, StepError> {
        let call = &*self.0;
        let queue = tx.find(&call.queue)?.ok_or(BrokerError::Gone)?;
        let life = Life::find(tx.db, call.incarnation)?;
        let id = tx.at(queue).id;
        let living = life.filter(|life| life.state == LIVING && life.queue == id);
        let mut life = living.ok_or(BrokerError::Gone)?;
        match judge_exchange(life.call, call.number) {
            Numbered::Astray => return Err(BrokerError::Gone.into()),
            Numbered::Repeat => {
                life.renew(tx.db, tx.boot_now, &tx.context.boot)?;
                return Ok(repeat(tx, &life)?);
            }
            Numbered::Fresh => {}
        }
        self.check(tx, &life)?;
        let stale = self.settle(tx, queue, &life)?;
        let deliveries = self.fetch(tx, queue, life.id)?;
        tx.ring(queue);
        let state = tx.at(queue);
        let reply = Exchanged {
            more: state.has_work(),
            revocations: state.revocations,
            now: tx.now,
            stale,
            deliveries,
        };
        life.call = call.number;
        life.first_tag = call.first_tag;
        life.handed = reply.deliveries.len() as u64;
        life.more = reply.more;
        life.replied_at = reply.now.as_millis();
        life.revocations = reply.revocations;
        life.stale.clone_from(&reply.stale);
        life.replied(tx.db, tx.boot_now, &tx.context.boot)?;
        Ok(reply)
    }

    fn weight(&self) -> usize {
        self.0.settlements.len() * 16 + self.0.want as usize * 256
    }
}

impl Exchange {
    fn check(&self, tx: &mut Tx<'_>, life: &Life) -> Result<(), StepError> {
        let call = &*self.0;
        let invalid = |why: &str| Err(BrokerError::Invalid(why.to_owned()).into());
        if let Err(error) = check_exchange(call) {
            return invalid(&error.to_string());
        }
        let outcomes = call.settlements.iter().map(|s| &s.outcome);
        if let Some(why) = outcomes.filter_map(contradiction).next() {
            return invalid(why);
        }
        let Some(end) = call.first_tag.checked_add(u64::from(call.want)) else {
            return invalid("tags beyond the last number");
        };
        let values = [Value::Int(life.id), int(end)];
        let used = tx.db.first(OVERLAP, &values, |row| row.count(0))?;
        if call.want > 0 && used.is_some_and(|used| used > call.first_tag) {
            return invalid("tags must ascend and are never used twice");
        }
        Ok(())
    }

    fn settle(&self, tx: &mut Tx<'_>, queue: Q, life: &Life) -> QueryResult<Vec<u64>> {
        let mut stale = Vec::new();
        let mut settling = Settling::new(queue, life);
        for settlement in &self.0.settlements {
            if !settling.settle(tx, settlement.tag, &settlement.outcome)? {
                stale.push(settlement.tag);
            }
        }
        tx.at(queue).counters.stale += stale.len() as u64;
        settling.finish(tx)?;
        Ok(stale)
    }

    /// Takes whole packs from the front of the queue; of the last one, as much as is wanted.
    fn fetch(&self, tx: &mut Tx<'_>, queue: Q, life: i64) -> QueryResult<Vec<Delivery>> {
        let want = self.0.want as usize;
        if want == 0 || !tx.at(queue).has_work() {
            return Ok(Vec::new());
        }
        let fetched = take_ready(tx, queue, (self.0.first_tag, want))?;
        let tags = fetched.deliveries.len();
        if tags > 0 {
            let state = tx.at(queue);
            state.active += tags as u64;
            let key = state.pack_key();
            tx.effects.written += fetched.pack.len();
            Batch::add(tx.db, (life, self.0.first_tag, tags), (key, &fetched.pack))?;
        }
        Ok(fetched.deliveries)
    }
}

/// Takes at most `want` frames out of the ready list, as deliveries tagged from `first_tag` on.
pub(super) fn take_ready(
    tx: &mut Tx<'_>,
    queue: Q,
    (first_tag, want): (u64, usize),
) -> QueryResult<Fetched> {
    tx.flush(queue)?;
    let (low, high) = tx.at(queue).keys();
    let mut fetched = Fetched::new(first_tag, want);
    let values = [
        Value::Int(low),
        Value::Int(high),
        Value::Int(i64::try_from(want).unwrap_or(i64::MAX)),
    ];
    tx.db.each(READY, &values, |row| {
        let key = row.int(0);
        row.with_blob(1, |pack| fetched.take(key, pack))
    })?;
    if let Some(last) = fetched.last_whole {
        tx.db.run(TAKEN, &[Value::Int(low), Value::Int(last)])?;
    }
    if let Some((key, rest)) = &fetched.rest {
        tx.db.run(REST, &[Value::Int(*key), Value::Blob(rest)])?;
    }
    let state = tx.at(queue);
    state.ready = if fetched.is_full() {
        state.ready.saturating_sub(fetched.deliveries.len() as u64)
    } else {
        0 // The list was read to its end.
    };
    Ok(fetched)
}

/// What a fetch has taken so far.
pub(super) struct Fetched {
    next_tag: u64,
    missing: usize,
    pub(super) deliveries: Vec<Delivery>,
    /// The deliveries' frames, to be stored as in flight.
    pack: Vec<u8>,
    last_whole: Option<i64>,
    rest: Option<(i64, Vec<u8>)>,
}

impl Fetched {
    fn new(next_tag: u64, missing: usize) -> Self {
        Self {
            next_tag,
            missing,
            deliveries: Vec::with_capacity(missing),
            pack: Vec::new(),
            last_whole: None,
            rest: None,
        }
    }

    const fn is_full(&self) -> bool {
        self.missing == 0
    }

    fn take(&mut self, key: i64, pack: &[u8]) -> ControlFlow<()> {
        if self.is_full() {
            return ControlFlow::Break(());
        }
        let mut frames = Frames::new(pack);
        while self.missing > 0
            && let Some(frame) = frames.next()
        {
            // Written anew, so that a damaged pack is whole in flight.
            push(&mut self.pack, frame);
            self.deliveries.push(Delivery {
                tag: self.next_tag,
                frame: frame.to_vec(),
            });
            self.next_tag += 1;
            self.missing -= 1;
        }
        let rest = frames.rest();
        if rest.is_empty() {
            self.last_whole = Some(key);
        } else {
            self.rest = Some((key, rest.to_vec()));
        }
        if self.is_full() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// Gives the reply of the last call again, with those of its deliveries that are still held.
fn repeat(tx: &mut Tx<'_>, life: &Life) -> QueryResult<Exchanged> {
    let mut holding = Holding::new(life.id);
    let mut deliveries = Vec::new();
    for tag in (life.first_tag..).take(usize::try_from(life.handed).unwrap_or_default()) {
        if holding.has(tx.db, tag)? {
            let frame = holding.frame(tx.db, tag)?.to_vec();
            deliveries.push(Delivery { tag, frame });
        }
    }
    Ok(Exchanged {
        stale: life.stale.clone(),
        deliveries,
        more: life.more,
        now: Timestamp::from_millis(life.replied_at),
        revocations: life.revocations,
    })
}
