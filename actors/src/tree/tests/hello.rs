//! What every user does first.

use actix::{Actor, Context, Handler};
use serde::{Deserialize, Serialize};

use super::{Noop, run};
use crate::attempt::{Attempt, Run};
use crate::ports::Broker;
use crate::producer::EnqueueOptions;
use crate::task;
use crate::testkit::{End, Rig};
use crate::workshop::{Boot, TaskActor};

#[derive(Serialize, Deserialize)]
struct Greet(String);
task!(Greet as "test.greet" -> String);

#[derive(Serialize, Deserialize)]
struct Add(u64);
task!(Add as "test.add" -> u64);

struct Sum(u64);

impl Actor for Sum {
    type Context = Context<Self>;
}

impl Handler<Attempt<Add>> for Sum {
    type Result = Run<u64>;

    fn handle(&mut self, attempt: Attempt<Add>, _: &mut Context<Self>) -> Run<u64> {
        self.0 += attempt.args.0;
        let sum = self.0;
        attempt.run(move |_| async move { Ok(sum) })
    }
}

/// Goal: a function's output is stored and comes back; `()` is stored only for those who wait.
/// Method: enqueue both kinds with and without somebody who waits, and look at the results.
#[test]
fn a_function_succeeds_and_its_output_is_kept() {
    run(async {
        let rig = Rig::builder()
            .task(|a: Attempt<Greet>| async move { Ok(format!("hello {}", a.args.0)) })
            .task(|_: Attempt<Noop>| async { Ok(()) })
            .start()
            .await;
        assert_eq!(rig.run(Greet("you".into())).await.unwrap(), "hello you");
        rig.run(Noop).await.unwrap();
        let options = EnqueueOptions::default;
        let unheard = rig.producer().enqueue(&Noop, options()).await.unwrap();
        let me = Greet("me".into());
        let greeted = rig.producer().enqueue(&me, options()).await.unwrap();
        rig.probe.wait_for_end(unheard.id, End::Succeeded).await;
        rig.wait_until_empty().await;
        let kept = |id| rig.broker().result(&unheard.queue, id);
        assert_eq!(kept(unheard.id).await.unwrap(), None);
        assert!(kept(greeted.id).await.unwrap().is_some());
        rig.stop().await;
    });
}

/// Goal: a task actor keeps its state between attempts.
/// Method: one lane, one instance, three tasks that add up.
#[test]
fn an_actor_keeps_its_state() {
    run(async {
        let rig = Rig::builder()
            .actor(TaskActor::new(|| Sum(0)).handles::<Add>())
            .options(|options| options.lanes = 1)
            .start()
            .await;
        for sum in [5, 10, 15] {
            assert_eq!(rig.run(Add(5)).await, Ok(sum));
        }
        assert!(
            rig.tree()
                .inspect()
                .find("work/lane-0/actors/sum")
                .is_some()
        );
        rig.stop().await;
    });
}

async fn answers(actor: TaskActor<Sum>, expected: u64) {
    let rig = Rig::builder().actor(actor.handles::<Add>()).start().await;
    assert_eq!(rig.run(Add(1)).await, Ok(expected));
    rig.stop().await;
}

/// Goal: every form of a factory builds its actor.
/// Method: one rig for each, with a start value that tells it from the others.
#[test]
fn every_form_of_factory_builds() {
    run(async {
        let lane = |boot: &Boot| boot.incarnation - 1;
        answers(TaskActor::new(|| Sum(1)), 2).await;
        answers(TaskActor::new(move |boot: Boot| Sum(2 + lane(&boot))), 3).await;
        answers(TaskActor::new(|| Ok::<_, std::io::Error>(Sum(3))), 4).await;
        let fallible = move |boot: Boot| Ok::<_, std::io::Error>(Sum(4 + lane(&boot)));
        answers(TaskActor::new(fallible), 5).await;
        answers(TaskActor::new(|| async { Sum(5) }), 6).await;
        answers(
            TaskActor::new(move |boot: Boot| async move { Sum(6 + lane(&boot)) }),
            7,
        )
        .await;
        let fallible = || async { Ok::<_, std::io::Error>(Sum(7)) };
        answers(TaskActor::new(fallible), 8).await;
        let fallible = move |boot: Boot| async move {
            tokio::task::yield_now().await;
            Ok::<_, std::io::Error>(Sum(8 + lane(&boot)))
        };
        answers(TaskActor::new(fallible), 9).await;
    });
}
