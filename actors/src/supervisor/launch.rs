//! Starting one incarnation: its channels, its arbiter, its attendant.
//!
//! Whatever fails here is not an error of the supervisor but an exit of the child, and is judged like any other.

use std::fmt::Display;
use std::io;
use std::sync::Arc;

use actix::{AsyncContext, Context};
use actix_rt::{Arbiter, ArbiterHandle, System};
use slog::o;
use tokio::sync::{mpsc, oneshot};

use super::Supervisor;
use super::attend::{Incarnation, OwnArbiter, attend};
use super::host::Cradle;
use super::plan::Phase;
use crate::child::{Birth, ChildSpec, ExitNote, ExitReason, Placement};
use crate::panics;

impl Supervisor {
    /// Starts an incarnation. Whatever fails about that is reported like any other exit.
    pub(super) fn launch(&mut self, index: usize, ctx: &mut Context<Self>) {
        let environment = self.birth.environment.clone();
        let ward = &mut self.wards[index];
        let number = ward.spec.incubator.begin();
        let (lineage, hold) = self.birth.lineage.child();
        let (controls, controls_in) = mpsc::channel(4);
        let (orders, orders_in) = mpsc::channel(1);
        let (born, born_in) = oneshot::channel();
        let (exit, exit_in) = oneshot::channel();
        ward.phase = Phase::Starting;
        ward.tried = true;
        ward.settled = false;
        ward.unresponsive = false;
        ward.incarnation = number;
        ward.orders = Some(orders);
        ward.board = Some(Arc::clone(&lineage.board));
        let name = Arc::clone(ward.spec.incubator.name());
        let keys = o!("child" => name.to_string(), "start" => number);
        let birth = Birth {
            name,
            path: Arc::clone(&ward.path),
            incarnation: number,
            exit: ExitNote::default(),
            log: environment.log.new(keys),
            environment,
            lineage,
        };
        let cradle = Cradle {
            birth,
            controls: controls_in,
            born,
            exit,
        };
        let arbiter = place(&ward.spec, number, cradle);
        let incarnation = Incarnation {
            child: ward.id,
            number,
            controls,
            born: born_in,
            exit: exit_in,
            hold,
            arbiter,
        };
        drop(actix_rt::spawn(attend(
            incarnation,
            ward.spec.clone(),
            orders_in,
            ctx.address(),
        )));
    }
}

/// Sends `cradle` to the arbiter of the child. Dropping it, when there is none, reports the end; why is in the exit.
fn place(spec: &ChildSpec, incarnation: u64, cradle: Cradle) -> Option<OwnArbiter> {
    let fail = |cradle: Cradle, why: &dyn Display| {
        let _unheard = cradle
            .exit
            .send(ExitReason::error(format_args!("no arbiter: {why}")));
    };
    let (handle, own) = match &spec.placement {
        Placement::Here => {
            spec.incubator.host(cradle);
            return None;
        }
        Placement::On(handle) => (handle.clone(), None),
        Placement::Fresh => match fresh_arbiter() {
            Ok(handle) => (handle.clone(), Some(OwnArbiter(handle))),
            Err(error) => {
                fail(cradle, &error);
                return None;
            }
        },
        Placement::Chosen(choose) => match panics::catch_call(|| choose(incarnation)) {
            Ok(Ok(handle)) => (handle, None),
            Ok(Err(error)) => {
                fail(cradle, &error);
                return None;
            }
            Err(report) => {
                let _unheard = cradle.exit.send(ExitReason::Panic { report });
                return None;
            }
        },
    };
    let incubator = Arc::clone(&spec.incubator);
    // Not accepted: the arbiter is gone and has dropped the cradle, which the attendant takes for a kill.
    let _accepted = handle.spawn_fn(move || incubator.host(cradle));
    own
}

/// Name resolution and file access of what lives there; long blocking work has a pool of its own elsewhere.
const FRESH_ARBITER_BLOCKING_THREADS: usize = 16;

/// Makes an arbiter whose thread ends by itself when it is told to stop.
fn fresh_arbiter() -> io::Result<ArbiterHandle> {
    if System::try_current().is_none() {
        return Err(io::Error::other("no actix system on this thread"));
    }
    Arbiter::try_with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(FRESH_ARBITER_BLOCKING_THREADS)
            .build()
    })
    .map(|arbiter| arbiter.handle())
}
