//! The pump: what a consumer does, as one loop over values it owns.
//!
//! Fetch, admit, launch, conclude, settle. One numbered call is outstanding at a time; what finishes meanwhile travels
//! with the next one, so batches grow with the load and a lone task is never delayed. The pump fetches no more than it
//! has permits for, plus a prefetch that follows how much it finished lately: tasks that take long are not prefetched,
//! so they stay where an idle worker can get them.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use crate::consumer::{ConsumerSetup, Control, Mode};
use crate::context::{Abort, Job};
use crate::flight::{Flight, Landed};
use crate::lease::MAX_BATCH;
use crate::line::{Answer, Line};
use crate::permits::Seat;
use crate::ports::{BrokerError, ChildPlace};
use crate::registry::Kind;
use crate::revocation::Revocations;

use clock::BrokerClock;
use leaving::Over;
use standby::Standby;

mod clock;
mod landing;
mod launching;
mod leaving;
mod replies;
mod standby;

/// How many attempts may end before the loop returns to its other duties and lets others have the thread: the actors it
/// feeds, and the ping that shows that the thread is not blocked.
const TURN: usize = 64;

/// How long a call may wait for attempts that end at once.
const SKIM: Duration = Duration::from_micros(500);

/// Why a pump ended.
#[derive(Debug)]
pub(crate) enum PumpExit {
    /// It was told to, and holds nothing any more.
    Drained,
    /// It cannot go on.
    Failed(BrokerError),
}

/// What happened next.
enum Step {
    Answer(Answer),
    Landed(Landed),
    Place(Option<ChildPlace>),
    Nudge,
}

/// A delivery that may start.
struct Ready {
    tag: u64,
    job: Box<Job>,
    kind: Arc<Kind>,
}

/// The state of one consumer. See the file's header.
pub(crate) struct Pump {
    setup: Arc<ConsumerSetup>,
    control: Rc<Control>,
    line: Line,
    seat: Seat,
    pending: Option<LocalBoxFuture<'static, Answer>>,
    open: bool,
    over: Option<Over>,
    /// Whether the queue may have ready tasks that were not fetched.
    hungry: bool,
    /// Whether a look was asked for while a call was outstanding: its reply may be older than what there is to see.
    look_again: bool,
    /// Whether another suspect was in the gate when it was last tried.
    gate_shut: bool,
    waiting: VecDeque<Ready>,
    suspects: VecDeque<Ready>,
    standby: Standby,
    flights: FuturesUnordered<Flight>,
    /// Undone, but their blocking work still runs: given back when that has ended.
    lingering: FuturesUnordered<LocalBoxFuture<'static, Landed>>,
    revoked: Revocations,
    revocations: u64,
    broker_clock: BrokerClock,
    landed_since_call: usize,
    landed_in_all: usize,
    rng: StdRng,
}

impl Drop for Pump {
    /// Leaves what it still holds to the watchdog, and what it could not tell the broker, or not for certain.
    fn drop(&mut self) {
        // First, so that nothing of a task is left when somebody else may have it.
        self.flights.clear();
        self.lingering.clear();
        for (_, context) in self.line.table.running() {
            // Blocking work goes on, and may ask whether it should.
            context.abort(Abort::Released);
        }
        self.line.table.confiscate();
        self.line.table.orphan();
        self.setup.watch.notify_one();
    }
}

impl Pump {
    pub(crate) fn new(setup: Arc<ConsumerSetup>, control: Rc<Control>) -> Self {
        let line = setup.new_line();
        let seat = setup.permits.seat(&setup.queue, setup.gauge.group);
        let pending = Some(line.open(&setup.link));
        setup.gauge.add_table(Arc::clone(&line.table));
        let standby = Standby::new(setup.worker.isolation.as_deref());
        Self {
            standby,
            line,
            seat,
            pending,
            setup,
            control,
            open: false,
            over: None,
            hungry: true,
            look_again: false,
            gate_shut: false,
            waiting: VecDeque::new(),
            suspects: VecDeque::new(),
            flights: FuturesUnordered::new(),
            lingering: FuturesUnordered::new(),
            revoked: Revocations::default(),
            revocations: 0,
            broker_clock: BrokerClock::default(),
            landed_since_call: 0,
            landed_in_all: 0,
            rng: StdRng::from_rng(&mut rand::rng()),
        }
    }

    /// Runs until it is drained or cannot go on.
    pub(crate) async fn run(mut self) -> PumpExit {
        let mut turn = 0;
        loop {
            let before = self.landed_in_all;
            self.heed_control();
            self.launch();
            self.skim();
            self.call();
            if let Some(over) = self.over {
                if matches!(over, Over::Closed) {
                    self.setup.gauge.remove_table(&self.line.table);
                }
                return PumpExit::Drained;
            }
            let step = self.next_step().await;
            if let Err(error) = self.apply(step) {
                return PumpExit::Failed(error);
            }
            turn += 1 + self.landed_in_all.wrapping_sub(before);
            if turn >= TURN {
                // Under load there is always something to do at once: without this the loop would never pause.
                turn = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Before a call, lands what ends as soon as it is looked at, and starts the next: so that tasks which take no time
    /// travel in few large calls. What takes time delays the call by no more than its first step, and by [`SKIM`] in all.
    fn skim(&mut self) {
        if self.pending.is_some() || self.flights.is_empty() {
            return;
        }
        let began = Instant::now();
        let before = self.landed_in_all;
        while self.land_more(Some(began)) && !self.is_idle() && began.elapsed() < SKIM {
            self.launch();
        }
        if self.landed_in_all != before {
            self.share_permits();
        }
    }

    /// Gives free permits back where others wait for them: they are asked for again in turn.
    fn share_permits(&mut self) {
        if self.seat.is_contended() {
            self.seat.release(self.idle_permits());
        }
    }

    /// Lands attempts that have ended, one turn of them at most, and no more than [`SKIM`] after `began`. Returns whether
    /// there were any.
    fn land_more(&mut self, began: Option<Instant>) -> bool {
        let before = self.landed_in_all;
        for turn in 0..TURN {
            if turn % 8 == 7 && began.is_some_and(|began| began.elapsed() >= SKIM) {
                break;
            }
            let Some(Some(landed)) = self.flights.next().now_or_never() else {
                break;
            };
            self.land(landed);
        }
        self.landed_in_all != before
    }

    fn is_idle(&self) -> bool {
        self.flights.is_empty() && self.waiting.is_empty() && self.suspects.is_empty()
    }

    async fn next_step(&mut self) -> Step {
        let Self {
            pending,
            flights,
            lingering,
            control,
            seat,
            setup,
            gate_shut,
            standby,
            ..
        } = self;
        let answer = async {
            match pending {
                Some(answer) => answer.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = answer => Step::Answer(answer),
            Some(landed) = flights.next(), if !flights.is_empty() => Step::Landed(landed),
            Some(landed) = lingering.next(), if !lingering.is_empty() => Step::Landed(landed),
            place = standby.place_is_free() => Step::Place(place),
            () = control.changed() => Step::Nudge,
            () = seat.available() => Step::Nudge,
            () = setup.gate.changed(), if *gate_shut => Step::Nudge,
        }
    }

    fn apply(&mut self, step: Step) -> Result<(), BrokerError> {
        match step {
            Step::Answer(answer) => {
                self.pending = None;
                self.answered(answer)?;
            }
            Step::Landed(landed) => {
                self.land(landed);
                self.land_more(None);
                self.share_permits();
            }
            Step::Place(place) => self.standby.take_in(place),
            Step::Nudge => {}
        }
        Ok(())
    }

    /// Does what was asked of the consumer since the last turn.
    fn heed_control(&mut self) {
        if self.control.take_look() {
            self.hungry = true;
            self.look_again = self.pending.is_some();
        }
        if self.open && self.pending.is_none() && self.control.take_revocations() {
            self.pending = Some(self.line.revocations(&self.setup.link, None));
        }
        if self.setup.is_leaving() && self.control.mode() == Mode::Running {
            self.control.set_mode(Mode::Draining);
        }
        match self.control.mode() {
            Mode::Running => {}
            Mode::Draining => {
                self.give_back_unstarted();
                self.give_back_childless();
            }
            Mode::GivingBack => {
                self.give_back_unstarted();
                for flight in self.line.table.running() {
                    flight.1.abort(Abort::Released);
                }
            }
        }
    }

    fn idle_permits(&self) -> usize {
        self.seat.held().saturating_sub(self.flights.len())
    }

    /// Makes the next call, if there is a reason for one and none is outstanding.
    fn call(&mut self) {
        if self.control.mode() != Mode::Running {
            return self.call_for_the_last_time();
        }
        if self.pending.is_some() || !self.open {
            return;
        }
        let ahead = self.waiting.len() + self.suspects.len();
        self.seat
            .unreserve(self.seat.reserved().saturating_sub(ahead));
        let want = if self.hungry {
            self.appetite()
        } else {
            self.idle_permits()
        };
        let want = u32::try_from(want).unwrap_or(MAX_BATCH).min(MAX_BATCH);
        if !self.line.table.has_finished() && (want == 0 || !self.hungry) {
            self.seat.release(self.idle_permits());
            let none_waits = self.waiting.is_empty() && self.suspects.is_empty();
            if !self.hungry && none_waits && self.standby.is_empty() {
                self.seat.stop_waiting();
            }
            return;
        }
        self.exchange(want);
    }

    fn exchange(&mut self, want: u32) {
        let settlements = self.line.table.take_finished(MAX_BATCH as usize);
        self.landed_since_call = 0;
        self.pending = Some(self.line.exchange(&self.setup.link, settlements, want));
    }

    /// Returns how many tasks to fetch: one for each permit that is free, and a prefetch of up to twice what finished
    /// since the last call, as far as the process has room.
    fn appetite(&mut self) -> usize {
        let batch = MAX_BATCH as usize;
        let idle = self.idle_permits();
        self.seat
            .acquire(batch.saturating_sub(idle + self.waiting.len() + self.suspects.len()));
        let ahead = (2 * self.landed_since_call).min(batch);
        self.seat
            .reserve(ahead.saturating_sub(self.seat.reserved()));
        let room = self
            .seat
            .reserved()
            .saturating_sub(self.waiting.len() + self.suspects.len());
        // Suspects wait for their gate: more of them than could ever start soon stay where others can get them.
        self.idle_permits().saturating_sub(self.suspects.len()) + room
    }
}
