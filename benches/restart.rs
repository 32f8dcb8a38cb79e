//! Question: how long is a child away when it panics: from the message that kills it to the answer of its successor?
//!
//! The backoff before the restart (here 1 ms, without jitter) is part of it, as it is in production.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler, Message};
use celeriac::child::{ChildSpec, Environment, Recipe, Strategy, SupervisorSpec};
use celeriac::clock::SystemClock;
use celeriac::intensity::Limit;
use celeriac::reference::Slot;
use celeriac::supervisor::Root;
use celeriac::time::Clock;
use celeriac_actors::backoff::Backoff;
use criterion::{Criterion, criterion_group, criterion_main};

struct Child;

impl Actor for Child {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Die;

#[derive(Message)]
#[rtype(result = "u8")]
struct Ask;

impl Handler<Die> for Child {
    type Result = ();

    fn handle(&mut self, _: Die, _: &mut Context<Self>) {
        panic!("asked to");
    }
}

impl Handler<Ask> for Child {
    type Result = u8;

    fn handle(&mut self, _: Ask, _: &mut Context<Self>) -> u8 {
        42
    }
}

fn restart(criterion: &mut Criterion) {
    let system = actix_rt::System::new();
    let (root, die, ask) = system.block_on(async {
        let slot = Slot::<Child>::new("child");
        let (die, ask) = (slot.reference::<Die>(), slot.reference::<Ask>());
        let pause = Duration::from_millis(1);
        let spec = ChildSpec::new(&slot, Recipe::new(|_| Child))
            .backoff(Backoff::new(pause, pause).with_jitter(0.0));
        let spec =
            SupervisorSpec::new(Strategy::OneForOne, Limit::new(Limit::MAX, pause)).child(spec);
        let environment = Environment {
            log: slog::Logger::root(slog::Discard, slog::o!()),
            clock: Arc::new(SystemClock),
            seed: 1,
            observer: None,
        };
        (Root::start("root", spec, environment), die, ask)
    });
    criterion.bench_function("restart/panic to next answer", |bencher| {
        bencher.iter_custom(|rounds| {
            system.block_on(async {
                let mut total = Duration::ZERO;
                for _ in 0..rounds {
                    ask.send(Ask).await.expect("an answer");
                    let start = SystemClock.since_boot();
                    die.send(Die).await.expect_err("it dies");
                    ask.send(Ask).await.expect("an answer of its successor");
                    total += SystemClock.since_boot().saturating_sub(start);
                }
                total
            })
        });
    });
    system.block_on(root.stop());
}

criterion_group!(benches, restart);
criterion_main!(benches);
