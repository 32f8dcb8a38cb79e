//! Attempts on standby: they wait for a child process, and hold no permit meanwhile.
//!
//! They are deliveries that have not started, as prefetched ones: given back at a stop, cancelled by a revocation, taken by
//! the watchdog from a blocked thread. There are no more of them than deliveries may be prefetched; those beyond that wait
//! with a permit, so that a queue is not emptied into a process that has no children for it. An attempt starts with a
//! place and a permit; whoever has a place and gets no permit lets go of it, so that the two never wait for each other.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use tokio::sync::{Semaphore, TryAcquireError};

use super::{Pump, Ready};
use crate::context::Abort;
use crate::dispatch::Way;
use crate::ports::{ChildPlace, Isolation};
use crate::table::Waiter;

/// The line of a consumer for places in children.
#[derive(Default)]
pub(super) struct Standby {
    places: Option<Arc<Semaphore>>,
    pub(super) line: VecDeque<Ready>,
    /// The wait for a place, which keeps its turn among all consumers.
    turn: Option<LocalBoxFuture<'static, Option<ChildPlace>>>,
    /// A place whose turn has come.
    place: Option<ChildPlace>,
}

/// What there is of places.
enum Vacancy {
    Place(ChildPlace),
    None,
    /// There will be none any more; whoever starts finds out.
    Never,
}

impl Standby {
    pub(super) fn new(isolation: Option<&dyn Isolation>) -> Self {
        Self {
            places: isolation.and_then(Isolation::places),
            ..Self::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Completes when the turn for a place has come; with none when there are no places any more. Cancel-safe.
    pub(super) async fn place_is_free(&mut self) -> Option<ChildPlace> {
        match &mut self.turn {
            Some(turn) => turn.await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn take_in(&mut self, place: Option<ChildPlace>) {
        self.turn = None;
        self.place = place;
    }

    fn vacancy(&mut self) -> Vacancy {
        if let Some(place) = self.place.take() {
            return Vacancy::Place(place);
        }
        let Some(places) = &self.places else {
            return Vacancy::Never;
        };
        if let Some(turn) = &mut self.turn {
            // Its turn may have come with the end of the attempt that is being landed.
            let Some(place) = turn.now_or_never() else {
                return Vacancy::None;
            };
            self.turn = None;
            return place.map_or(Vacancy::Never, Vacancy::Place);
        }
        match Arc::clone(places).try_acquire_owned() {
            Ok(place) => Vacancy::Place(place),
            Err(TryAcquireError::NoPermits) => Vacancy::None,
            Err(TryAcquireError::Closed) => Vacancy::Never,
        }
    }

    /// Waits for its turn.
    fn queue_up(&mut self) {
        if let Some(places) = self.places.as_ref().filter(|_| self.turn.is_none()) {
            let acquired = Arc::clone(places).acquire_owned();
            self.turn = Some(Box::pin(async move { acquired.await.ok() }));
        }
    }

    /// Lets others have the place.
    fn step_back(&mut self) {
        self.turn = None;
        self.place = None;
    }
}

impl Pump {
    /// Returns whether a delivery is to wait here for a child.
    pub(super) fn wants_a_child(&self, ready: &Ready) -> bool {
        self.standby.places.is_some() && ready.kind.waits_for_a_child(&ready.job)
    }

    /// Starts a delivery that wants a child and has a permit where a place is free; puts it on standby where none is.
    pub(super) fn launch_apart(&mut self, ready: Ready) {
        let vacancy = if self.standby.is_empty() {
            self.standby.vacancy()
        } else {
            Vacancy::None
        };
        match vacancy {
            Vacancy::Place(place) => self.start(ready, None, Way::InPlace(place)),
            Vacancy::None if self.seat.stand_by() => {
                let (job, since) = (&ready.job, tokio::time::Instant::now());
                let waiter = Waiter {
                    id: job.header.id,
                    task: job.envelope.task.clone(),
                    attempt: job.header.attempts.saturating_add(1),
                    since,
                };
                self.line.table.wait(ready.tag, waiter);
                self.standby.line.push_back(ready);
                self.standby.queue_up();
            }
            // It waits with its permit.
            Vacancy::None | Vacancy::Never => self.start(ready, None, Way::Usual),
        }
    }

    /// Starts what is on standby, oldest first, as far as there are places and permits.
    pub(super) fn launch_standby(&mut self) {
        while !self.standby.is_empty() {
            let way = match self.standby.vacancy() {
                Vacancy::Place(place) => Way::InPlace(place),
                Vacancy::Never => Way::Usual,
                Vacancy::None => {
                    if self.waiting.is_empty() && self.suspects.is_empty() {
                        // A permit is no use now: others need not make room.
                        self.seat.stop_waiting();
                    }
                    return self.standby.queue_up();
                }
            };
            if self.idle_permits() == 0 && self.seat.acquire(1) == 0 {
                // It is told when there is a permit, and looks for a place again.
                break;
            }
            if let Some(ready) = self.standby.line.pop_front() {
                self.seat.stand_down(self.standby.line.len());
                self.start(ready, None, way);
            }
        }
        self.standby.step_back();
    }

    /// Gives back what has a permit and waits for a child: nothing of it has started.
    pub(super) fn give_back_childless(&self) {
        for (_, context) in self.line.table.running() {
            if context.waits_for_a_child() {
                context.abort(Abort::Released);
            }
        }
    }
}
