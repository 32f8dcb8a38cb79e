//! The waker: the one place of the process that waits for the broker's bells, and passes each to who can act on it.
//!
//! A token for a queue goes to one consumer that lives, on a lane whose thread is free if there is one; a fetch that leaves
//! tasks behind rings again, so a burst reaches every consumer without waking all of them for a single task. A process
//! does not listen for a queue that it has no room for, or nobody who could look: that token is another's. The net under
//! it: at each timeout one consumer of every queue looks by itself.

use std::time::Duration;

use actix::{Actor, AsyncContext, Context, WrapFuture};
use rand::RngExt;
use slog::{Logger, debug};
use tokio::time::{Instant, sleep};

use crate::ids::QueueName;
use crate::lane::LaneSeat;
use crate::line::Link;
use crate::messages::{DeadArrived, DueChanged, Look, LookAt};
use crate::permits::Permits;
use crate::ports::Wake;
use crate::reference::Ref;

/// How long it waits for a bell before every queue is looked at anyway.
const NET: Duration = Duration::from_secs(5);

/// How long it waits when the broker cannot ring at all.
const PAUSE: Duration = Duration::from_secs(1);

/// How soon it looks again whether a queue has a consumer that lives.
const REVIVAL: Duration = Duration::from_millis(100);

/// The consumers of one queue, one per lane.
#[derive(Clone, Debug)]
pub(crate) struct QueueBells {
    pub(crate) queue: QueueName,
    pub(crate) consumers: Vec<(LaneSeat, Ref<Look>)>,
}

impl QueueBells {
    /// Returns whether one of them lives, on a thread that answers.
    fn is_heard(&self) -> bool {
        let mut consumers = self.consumers.iter();
        consumers.any(|(seat, look)| look.is_up() && seat.answers())
    }
}

/// Passes bells on. See the file's header.
#[derive(Clone)]
pub(crate) struct Waker {
    pub(crate) link: Link,
    pub(crate) bells: Vec<QueueBells>,
    pub(crate) scheduler: Ref<DueChanged>,
    pub(crate) dead_letter: Option<Ref<DeadArrived>>,
    pub(crate) permits: Permits,
    pub(crate) log: Logger,
}

impl Actor for Waker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let waker = self.clone();
        ctx.spawn(async move { waker.listen().await }.into_actor(self));
    }
}

impl Waker {
    async fn listen(self) {
        let mut turn = 0_usize;
        let mut net = Instant::now();
        loop {
            let (listening, full) = self.split();
            let mut left = net.saturating_duration_since(Instant::now());
            if !self.bells.iter().all(QueueBells::is_heard) {
                left = left.min(REVIVAL);
            }
            let waiting = self.link.hear(&listening, left);
            let wakes = tokio::select! {
                biased;
                wakes = waiting => wakes,
                () = self.permits.freed(), if !full.is_empty() => Ok(Vec::new()),
            };
            turn = turn.wrapping_add(1);
            match wakes {
                Ok(wakes) => {
                    for wake in wakes {
                        self.pass_or_hand_on(wake, turn).await;
                    }
                }
                Err(error) => {
                    debug!(self.log, "cannot wait for bells"; "error" => %error);
                    sleep(PAUSE).await;
                }
            }
            if Instant::now() >= net {
                net = Instant::now() + NET.mul_f64(rand::rng().random_range(0.8..=1.0));
                self.have_all_look(turn, full);
            }
        }
    }

    /// Has one consumer of every queue look, and all of those queues that nobody listens for hear of revocations.
    fn have_all_look(&self, turn: usize, full: Vec<QueueName>) {
        for bell in &self.bells {
            self.pass(Wake::Ready(bell.queue.clone()), turn);
        }
        for queue in full {
            self.pass(Wake::Revoked(queue), turn);
        }
    }

    /// Returns the queues that there is room for, and those there is none for: their bells are for other processes.
    fn split(&self) -> (Vec<QueueName>, Vec<QueueName>) {
        let queues = self.bells.iter().map(|bell| bell.queue.clone());
        queues.partition(|queue| self.can_look(queue))
    }

    /// Returns whether a task of the queue could start here.
    fn can_look(&self, queue: &QueueName) -> bool {
        let heard = self.bells.iter().find(|bell| bell.queue == *queue);
        // Asked in any case: whether there is room is watched from then on.
        self.permits.has_room(queue) && heard.is_some_and(QueueBells::is_heard)
    }

    /// Passes one bell on, to another process if this one has filled up meanwhile or has nobody who could look.
    async fn pass_or_hand_on(&self, wake: Wake, turn: usize) {
        if let Wake::Ready(queue) = &wake
            && !self.can_look(queue)
            && let Err(error) = self.link.broker.ring(queue).await
        {
            // Others look by themselves now and then.
            debug!(self.log, "cannot hand a bell on"; "queue" => %queue, "error" => %error);
        }
        self.pass(wake, turn);
    }

    /// Passes one bell on. A full mailbox needs no bell, nor does a consumer that starts: it looks by itself. One whose
    /// thread is blocked would hear it too late.
    fn pass(&self, wake: Wake, turn: usize) {
        match wake {
            Wake::Ready(queue) => {
                let consumers = self.consumers(&queue);
                let start = if consumers.is_empty() {
                    0
                } else {
                    turn % consumers.len()
                };
                let (later, first) = consumers.split_at(start);
                let in_turn = first.iter().chain(later);
                let mut living = in_turn.filter(|(seat, look)| look.is_up() && seat.answers());
                let free = living.clone().find(|(seat, _)| seat.is_free());
                if let Some((_, look)) = free.or_else(|| living.next()) {
                    let _shed = look.try_send(Look { at: LookAt::Ready });
                }
            }
            Wake::Revoked(queue) => {
                for (_, look) in self.consumers(&queue) {
                    let _shed = look.try_send(Look {
                        at: LookAt::Revocations,
                    });
                }
            }
            Wake::Due(_) => {
                let _shed = self.scheduler.try_send(DueChanged);
            }
            Wake::Dead => {
                if let Some(dead_letter) = &self.dead_letter {
                    let _shed = dead_letter.try_send(DeadArrived);
                }
            }
        }
    }

    fn consumers(&self, queue: &QueueName) -> &[(LaneSeat, Ref<Look>)] {
        self.bells
            .iter()
            .find(|bell| bell.queue == *queue)
            .map_or(&[], |bell| &bell.consumers)
    }
}

#[cfg(feature = "testkit")]
#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use actix::{Addr, Handler};
    use slog::{Discard, o};

    use super::*;
    use crate::lane::Board;
    use crate::outage::{Access, Outage};
    use crate::reference::Slot;
    use crate::testkit::{ManualClock, MemoryBroker};
    use crate::time::Timestamp;

    /// Counts how often it is to look at what is ready.
    #[derive(Clone, Default)]
    struct Looker(Arc<AtomicUsize>);

    impl Actor for Looker {
        type Context = Context<Self>;
    }

    impl Handler<Look> for Looker {
        type Result = ();

        fn handle(&mut self, look: Look, _: &mut Context<Self>) {
            let ready = usize::from(look.at == LookAt::Ready);
            self.0.fetch_add(ready, Ordering::SeqCst);
        }
    }

    impl Handler<DueChanged> for Looker {
        type Result = ();

        fn handle(&mut self, _: DueChanged, _: &mut Context<Self>) {}
    }

    /// A waker for one queue with three consumers: one whose thread is blocked, one that is down, one that is busy.
    struct Stage {
        waker: Waker,
        broker: Arc<MemoryBroker>,
        seats: Vec<LaneSeat>,
        lookers: Vec<(Looker, Addr<Looker>)>,
    }

    impl Stage {
        fn new() -> Self {
            let (board, queue) = (Board::default(), QueueName::new("q").unwrap());
            let broker = Arc::new(MemoryBroker::new(Arc::new(ManualClock::new())));
            let log = Logger::root(Discard, o!());
            let (mut seats, mut lookers, mut consumers) = (Vec::new(), Vec::new(), Vec::new());
            for lane in 0..3 {
                let seat = LaneSeat::new(lane, board.clone());
                seat.fresh().unwrap();
                let looker = Looker::default();
                let address = looker.clone().start();
                let slot = match lane {
                    1 => Slot::new("down"),
                    _ => Slot::attached("up", address.clone()),
                };
                consumers.push((seat.clone(), slot.reference()));
                seats.push(seat);
                lookers.push((looker, address));
            }
            seats[0].gauge().unwrap().set_blocked(true);
            seats[2].gauge().unwrap().enter(1);
            let waker = Waker {
                link: Link {
                    broker: broker.clone(),
                    outage: Arc::new(Outage::new("broker", log.clone())),
                },
                permits: Permits::new(4, 4, &[]),
                bells: vec![QueueBells { queue, consumers }],
                scheduler: Slot::<Looker>::new("scheduler").reference(),
                dead_letter: None,
                log,
            };
            Self {
                waker,
                broker,
                seats,
                lookers,
            }
        }

        /// Passes a bell on, whoever's turn it is; returns how often each consumer was to look and the broker rang.
        async fn ring(&self) -> (Vec<usize>, u64) {
            let (rung, mut looks) = (self.broker.calls(), Vec::new());
            for turn in 0..3 {
                let wake = Wake::Ready(QueueName::new("q").unwrap());
                self.waker.pass_or_hand_on(wake, turn).await;
            }
            for (looker, address) in &self.lookers {
                // Answered behind all that was sent before.
                let at = LookAt::Revocations;
                address.send(Look { at }).await.unwrap();
                looks.push(looker.0.load(Ordering::SeqCst));
            }
            (looks, self.broker.calls() - rung)
        }
    }

    /// Goal: only an answer of the broker ends an outage, not that the time to wait has passed, nor a bell from before it.
    #[test]
    fn waiting_for_bells_ends_no_outage() {
        actix_rt::System::new().block_on(async {
            let stage = Stage::new();
            let (link, queue) = (&stage.waker.link, QueueName::new("q").unwrap());
            link.outage.failed(Instant::now(), Access::Read, "gone");
            let heard = link
                .hear(std::slice::from_ref(&queue), Duration::ZERO)
                .await;
            assert_eq!(heard, Ok(Vec::new()));
            assert!(link.outage.state().is_some());
            link.broker
                .revoke(&queue, &[], Timestamp::EPOCH)
                .await
                .unwrap();
            let heard = link.hear(std::slice::from_ref(&queue), NET).await;
            assert!(heard.is_ok());
            assert!(link.outage.state().is_some());
            link.ask(|| link.broker.queues()).await.unwrap();
            assert!(link.outage.state().is_none());
            stage.seats.iter().for_each(LaneSeat::retire);
        });
    }

    /// Goal: a bell reaches a consumer that can hear it, be it busy; where there is none, it is handed on, and no other is
    /// asked for.
    /// Method: ring with each in turn; then block the last thread that answers.
    #[test]
    fn a_bell_is_for_those_who_can_hear_it() {
        actix_rt::System::new().block_on(async {
            let stage = Stage::new();
            assert_eq!(stage.ring().await, (vec![0, 0, 3], 0));
            assert_eq!(stage.waker.split().0.len(), 1);
            stage.seats[2].gauge().unwrap().set_blocked(true);
            assert_eq!(stage.ring().await, (vec![0, 0, 3], 3));
            assert_eq!(stage.waker.split().0.len(), 0);
            stage.seats.iter().for_each(LaneSeat::retire);
        });
    }
}
