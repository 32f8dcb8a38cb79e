//! Who takes part: the leases of consumers, the records of workers.

use celeriac_actors::fence::BEATS_ALIVE;
use celeriac_actors::ids::IncarnationId;
use celeriac_actors::ports::WorkerRecord;
use celeriac_actors::time::Timestamp;

use super::decode::{self, Parts};
use super::encode::hex;
use super::script::{RENEW, WORKERS};
use super::{Leases, RedisBroker, Reply};

impl RedisBroker {
    /// Reads the records of all workers.
    pub(super) async fn read_workers(&self) -> Reply<Vec<WorkerRecord>> {
        let key = self.keys.workers();
        let reply = self
            .links
            .run(super::slot(&key), &WORKERS, &WORKERS.call(&key))
            .await?;
        let mut parts = Parts::of(reply)?;
        let now = Timestamp::from_millis(parts.number()?);
        let mut workers = Vec::new();
        while !parts.is_empty() {
            let _name = parts.bytes()?;
            // A record of another version is not this one's to judge.
            workers.extend(worker(&parts.text()?, now));
        }
        workers.sort_by(|a, b| a.worker.cmp(&b.worker));
        Ok(workers)
    }

    /// Renews leases of several queues; returns those that are gone of each.
    pub(super) async fn renew_all(&self, leases: &[Leases]) -> Reply<Vec<Vec<IncarnationId>>> {
        let Some((first, _)) = leases.first() else {
            return Ok(Vec::new());
        };
        let roots: Vec<_> = leases.iter().map(|(root, _)| root).collect();
        let mut call = RENEW.call_of_all(&roots);
        for (_, incarnations) in leases {
            call.arg(incarnations.len());
            for id in incarnations {
                call.arg(hex(*id));
            }
        }
        let reply = self.links.run(super::slot(first), &RENEW, &call).await?;
        let mut all = Vec::new();
        for (gone, (_, incarnations)) in Parts::of(reply)?.rest().into_iter().zip(leases) {
            let gone: Vec<_> = Parts::of(gone)?.rest();
            let gone: Vec<_> = gone.into_iter().map(decode::text).collect::<Reply<_>>()?;
            let own = incarnations.iter().copied();
            all.push(own.filter(|id| gone.contains(&hex(*id))).collect());
        }
        Ok(all)
    }
}

/// Reads a worker's record: ms of the last beat, then JSON.
fn worker(text: &str, now: Timestamp) -> Option<WorkerRecord> {
    let (seen, record) = text.split_once(' ')?;
    let seen_at = Timestamp::from_millis(seen.parse().ok()?);
    let record: WorkerRecord = serde_json::from_str(record).ok()?;
    let alive = seen_at.plus(record.beat * BEATS_ALIVE) >= now;
    Some(WorkerRecord {
        seen_at,
        alive,
        ..record
    })
}
