//! Pages of the stored tasks of a queue. A cursor is `STATE:HOW_MANY_TO_SKIP`.

use celeriac_actors::lease::MAX_BATCH;
use celeriac_actors::ports::{BrokerError, Cursor, ScanPage, ScanRequest, StoredTask};
use celeriac_actors::state::TaskState;
use celeriac_actors::time::Timestamp;

use super::decode::Parts;
use super::script::SCAN;
use super::sweep::{incarnation, worker_of};
use super::{RedisBroker, Reply};

pub(super) async fn page(broker: &RedisBroker, request: &ScanRequest) -> Reply<ScanPage> {
    let skip = position(request)?;
    let mut call = SCAN.call(&broker.keys.root(&request.queue));
    call.arg(request.state.as_str())
        .arg(skip)
        .arg(request.limit);
    let mut parts = Parts::of(broker.run(&SCAN, &request.queue, &call).await?)?;
    let more = parts.number::<u64>()? == 1;
    let mut page = ScanPage::default();
    while !parts.is_empty() {
        let frame = parts.bytes()?;
        let due = parts.number::<u64>()?;
        let (id, worker) = (parts.text()?, parts.text()?);
        let holder = if id.is_empty() {
            None
        } else {
            Some((worker_of(&worker)?, incarnation(&id)?))
        };
        page.tasks.push(StoredTask {
            frame,
            state: request.state,
            due: (due > 0).then_some(Timestamp::from_millis(due)),
            holder,
        });
    }
    if more {
        let next = skip.saturating_add(page.tasks.len() as u64);
        page.next = Some(Cursor(format!("{}:{next}", request.state)));
    }
    Ok(page)
}

/// Returns how many tasks the request skips.
fn position(request: &ScanRequest) -> Reply<u64> {
    let state = request.state;
    let invalid = |why: String| Err(BrokerError::Invalid(why));
    if !matches!(
        state,
        TaskState::Scheduled | TaskState::Retrying | TaskState::Ready | TaskState::Active
    ) {
        return invalid(format!("tasks that are {state} are not stored"));
    }
    if request.limit == 0 || request.limit > MAX_BATCH {
        return invalid(format!("a page of {} tasks", request.limit));
    }
    let Some(Cursor(cursor)) = &request.after else {
        return Ok(0);
    };
    let place = cursor.split_once(':');
    match place.filter(|(of, _)| *of == state.as_str()) {
        Some((_, skip)) if skip.parse::<u64>().is_ok() => Ok(skip.parse().unwrap_or_default()),
        _ => invalid(format!("{cursor:?} is no place in a scan of {state}")),
    }
}
