//! Attending one incarnation, from its supervisor's side: birth, pings, stability, end.
//!
//! One task per incarnation on the supervisor's arbiter, written as straight code; it reports facts to the supervisor
//! and decides nothing. Invariants: it waits for nothing without a bound; its end drops the [`Hold`], so that nothing
//! of the incarnation outlives it except a thread that cannot be ended. When the supervisor is gone the order channel
//! closes, which is an order to kill.

use std::time::Duration;

use actix::{Addr, Message};
use actix_rt::ArbiterHandle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::Supervisor;
use super::host::Control;
use super::lineage::Hold;
use crate::child::{ChildSpec, ExitReason, Pings, Shutdown, StopKind};

/// What happened to an incarnation. Sent by its attendant to its supervisor.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) child: u64,
    pub(super) incarnation: u64,
    pub(super) fact: Fact,
}

/// The facts of an incarnation's life, in the order in which they can happen.
#[derive(Debug)]
pub(super) enum Fact {
    /// It serves.
    Born,
    /// It has served for `stable_after`.
    Stable,
    /// It missed a ping; again for each further deadline that passes.
    Unresponsive,
    /// It answered after all.
    Responsive,
    /// It is over; nothing follows but `Unblocked`. `abandoned` when its thread may still be running it.
    Ended { reason: ExitReason, abandoned: bool },
    /// It had been abandoned, and now its thread has let go of it.
    Unblocked,
}

/// Answered with whether to give up on the incarnation, which only [`Fact::Unresponsive`] asks.
impl Message for Report {
    type Result = bool;
}

/// What a supervisor wants of an incarnation.
#[derive(Debug)]
pub(super) enum Order {
    /// Ask it to stop, kill it when it does not.
    Stop(StopKind),
}

/// An arbiter that belongs to one incarnation. Told to stop when dropped, never joined.
#[derive(Debug)]
pub(super) struct OwnArbiter(pub(super) ArbiterHandle);

impl Drop for OwnArbiter {
    fn drop(&mut self) {
        // A blocked thread finds this when it unblocks.
        let _alive = self.0.stop();
    }
}

/// One incarnation as its attendant sees it.
#[derive(Debug)]
pub(super) struct Incarnation {
    pub(super) child: u64,
    pub(super) number: u64,
    pub(super) controls: mpsc::Sender<Control>,
    pub(super) born: oneshot::Receiver<()>,
    pub(super) exit: oneshot::Receiver<ExitReason>,
    pub(super) hold: Hold,
    pub(super) arbiter: Option<OwnArbiter>,
}

/// How an incarnation ended.
struct End {
    reason: ExitReason,
    abandoned: bool,
}

/// Attends `incarnation` until it has ended, and tells `supervisor`.
pub(super) async fn attend(
    mut incarnation: Incarnation,
    spec: ChildSpec,
    mut orders: mpsc::Receiver<Order>,
    supervisor: Addr<Supervisor>,
) {
    let end = life(&mut incarnation, &spec, &mut orders, &supervisor).await;
    let Incarnation {
        child,
        number,
        exit,
        hold,
        arbiter,
        ..
    } = incarnation;
    drop((hold, arbiter));
    let End { reason, abandoned } = end;
    let fact = Fact::Ended { reason, abandoned };
    let _asked_nothing = tell(&supervisor, child, number, fact).await;
    if abandoned {
        // However late, and for whatever reason: the thread is free, or gone.
        let _late = exit.await;
        let _asked_nothing = tell(&supervisor, child, number, Fact::Unblocked).await;
    }
}

async fn life(
    incarnation: &mut Incarnation,
    spec: &ChildSpec,
    orders: &mut mpsc::Receiver<Order>,
    supervisor: &Addr<Supervisor>,
) -> End {
    tokio::select! {
        biased;
        exit = &mut incarnation.exit => return gone(exit),
        Ok(()) = &mut incarnation.born => {}
        order = orders.recv() => return match order {
            Some(Order::Stop(kind)) if spec.asked_while_starting => {
                stop(incarnation, spec, kind, orders).await
            }
            // Nothing has been promised to anybody yet: a start is cut off, not asked to stop.
            _ => kill(incarnation, spec, ExitReason::Killed).await,
        },
        () = sleep(spec.start_timeout) => {
            let late = ExitReason::error("it did not start within its timeout");
            return kill(incarnation, spec, late).await;
        }
    }
    let (child, number) = (incarnation.child, incarnation.number);
    tell(supervisor, child, number, Fact::Born).await;

    let pings = ping(incarnation.controls.clone(), spec.pings, |fact| {
        tell(supervisor, child, number, fact)
    });
    let stable = async {
        sleep(spec.stable_after).await;
        tell(supervisor, child, number, Fact::Stable).await;
        std::future::pending::<End>().await
    };
    tokio::select! {
        biased;
        exit = &mut incarnation.exit => gone(exit),
        order = orders.recv() => match order {
            Some(Order::Stop(kind)) => stop(incarnation, spec, kind, orders).await,
            None => kill(incarnation, spec, ExitReason::Killed).await,
        },
        () = pings => End { reason: ExitReason::Unresponsive, abandoned: true },
        end = stable => end,
    }
}

/// Pings for ever. Returns when the child has missed a deadline and is to be replaced.
async fn ping<F: Future<Output = bool>>(
    controls: mpsc::Sender<Control>,
    pings: Option<Pings>,
    report: impl Fn(Fact) -> F,
) {
    let Some(pings) = pings else {
        return std::future::pending().await;
    };
    loop {
        sleep(pings.period).await;
        // One ping at a time: a thread that is blocked for an hour has one waiting, not thousands.
        let (answer, mut answered) = oneshot::channel();
        if controls.try_send(Control::Ping(answer)).is_err() {
            continue;
        }
        let mut late = false;
        let outcome = loop {
            match timeout(pings.deadline, &mut answered).await {
                Ok(outcome) => break outcome,
                Err(_) if report(Fact::Unresponsive).await => return,
                Err(_) => late = true,
            }
        };
        if outcome.is_err() {
            // It has ended, of which there is a better witness.
            return std::future::pending().await;
        }
        if late {
            report(Fact::Responsive).await;
        }
    }
}

/// Asks the incarnation to stop and waits as long as it may take; not at all where nobody would hear it.
async fn stop(
    incarnation: &mut Incarnation,
    spec: &ChildSpec,
    kind: StopKind,
    orders: &mut mpsc::Receiver<Order>,
) -> End {
    let Shutdown { ask, .. } = spec.shutdown;
    if !ask.is_zero() && spec.reach.is_there() {
        // Full only when it answers nothing, in which case it is killed in time.
        let _unheard = incarnation.controls.try_send(Control::Stop(kind));
        let supervisor_gone = async { while orders.recv().await.is_some() {} };
        tokio::select! {
            biased;
            exit = &mut incarnation.exit => return gone(exit),
            () = sleep(ask) => {}
            () = supervisor_gone => {}
        }
    }
    kill(incarnation, spec, ExitReason::Killed).await
}

/// Cuts the incarnation off and waits a moment for it to be gone, where it can be reached.
async fn kill(incarnation: &mut Incarnation, spec: &ChildSpec, reason: ExitReason) -> End {
    incarnation.hold.send_replace(());
    let patience = if spec.reach.is_there() {
        spec.shutdown.kill
    } else {
        Duration::ZERO
    };
    let abandoned = timeout(patience, &mut incarnation.exit).await.is_err();
    End { reason, abandoned }
}

fn gone(exit: Result<ExitReason, oneshot::error::RecvError>) -> End {
    // Untold: the arbiter has stopped with the incarnation on it.
    End {
        reason: exit.unwrap_or(ExitReason::Killed),
        abandoned: false,
    }
}

/// Tells the supervisor, and returns whether it gives up on the incarnation.
async fn tell(supervisor: &Addr<Supervisor>, child: u64, incarnation: u64, fact: Fact) -> bool {
    // A supervisor that is gone has closed the order channel, which is what counts.
    let answer = supervisor
        .send(Report {
            child,
            incarnation,
            fact,
        })
        .await;
    answer.unwrap_or(false)
}
