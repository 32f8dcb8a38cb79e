//! The waker: the one place of the process that waits for the broker's bells, and passes each to who can act on it.
//!
//! A token for a queue goes to one consumer, on a lane whose thread is free if there is one; a fetch that leaves tasks
//! behind rings again, so a burst reaches every consumer without waking all of them for a single task. A process does not
//! listen for a queue that it has no room for: that token is another's. The net under it: at each timeout one consumer
//! of every queue looks by itself.

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

/// The consumers of one queue, one per lane.
#[derive(Clone, Debug)]
pub(crate) struct QueueBells {
    pub(crate) queue: QueueName,
    pub(crate) consumers: Vec<(LaneSeat, Ref<Look>)>,
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
            let left = net.saturating_duration_since(Instant::now());
            let waiting = self.link.ask(|| self.link.broker.wait(&listening, left));
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
        queues.partition(|queue| self.permits.has_room(queue))
    }

    /// Passes one bell on, to another process if this one has filled up meanwhile.
    async fn pass_or_hand_on(&self, wake: Wake, turn: usize) {
        if let Wake::Ready(queue) = &wake
            && !self.permits.has_room(queue)
            && let Err(error) = self.link.broker.ring(queue).await
        {
            // Others look by themselves now and then.
            debug!(self.log, "cannot hand a bell on"; "queue" => %queue, "error" => %error);
        }
        self.pass(wake, turn);
    }

    /// Passes one bell on. A full mailbox or a child that restarts needs no bell: it looks by itself.
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
                let mut in_turn = first.iter().chain(later);
                let free = in_turn
                    .clone()
                    .find(|(seat, look)| look.is_up() && seat.is_free());
                if let Some((_, look)) = free.or_else(|| in_turn.next()) {
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
