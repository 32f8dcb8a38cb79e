//! Breakers in the whole tree on the broker in memory, and the board when calls of the broker fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Board, BoardError, BreakerPolicy, BreakerRecord, BreakerState, MAX_BREAKERS};
use crate::attempt::Attempt;
use crate::ids::BreakerName;
use crate::policy::Policy;
use crate::ports::Broker;
use crate::state::TaskState;
use crate::task;
use crate::task::{Task, TaskError};
use crate::testkit::{Fault, MemoryBroker, Method, PATIENCE, Rig, RigBuilder, RunningClock};
use crate::time::{Clock, Timestamp};

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn run<F: Future>(test: F) -> F::Output {
    actix_rt::System::new().block_on(async {
        let in_time = tokio::time::timeout(2 * PATIENCE, test).await;
        in_time.expect("the test hangs")
    })
}

fn name(text: &str) -> BreakerName {
    BreakerName::new(text).unwrap()
}

fn twitchy() -> BreakerPolicy {
    BreakerPolicy::default()
        .consecutive(3)
        .open_for(ms(100), ms(200))
}

/// A task whose kind has a breaker.
#[derive(Clone, Serialize, Deserialize)]
struct Own;
task!(Own as "test.own" -> (), Policy::default().max_attempts(9).backoff(ms(1), ms(5)).breaker(twitchy()));

/// A task that calls something through a breaker.
#[derive(Clone, Serialize, Deserialize)]
struct Call;
task!(Call as "test.call" -> (), Policy::default().max_attempts(9).backoff(ms(1), ms(5)));

/// What tasks depend on: sick until it is healed, and counting its calls.
#[derive(Clone, Default)]
struct Dependency(Arc<(AtomicBool, AtomicUsize)>);

impl Dependency {
    fn calls(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }

    fn heal(&self) {
        self.0.0.store(true, Ordering::SeqCst);
    }

    async fn call(&self) -> Result<(), std::io::Error> {
        self.0.1.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        if self.0.0.load(Ordering::SeqCst) {
            Ok(())
        } else {
            Err(std::io::Error::other("sick"))
        }
    }
}

fn rig(dependency: &Dependency) -> RigBuilder {
    let (own, named) = (dependency.clone(), dependency.clone());
    Rig::builder()
        .options(|options| options.concurrency = 4)
        .breaker("bank", twitchy())
        .task(move |_: Attempt<Own>| {
            let dependency = own.clone();
            async move { Ok(dependency.call().await?) }
        })
        .task(move |attempt: Attempt<Call>| {
            let dependency = named.clone();
            async move { Ok(attempt.breaker("bank").call(dependency.call()).await?) }
        })
}

fn view(rig: &Rig, name: &str) -> super::BreakerView {
    let views = rig.breakers().views();
    let found = views
        .into_iter()
        .find(|view| view.record.name.as_str() == name);
    found.expect("the breaker is known")
}

async fn until_state(rig: &Rig, name: &str, state: BreakerState) {
    rig.probe
        .until(|| view(rig, name).record.state == state)
        .await;
}

/// Goal: tasks that need what is sick wait without using up attempts and without keeping anybody busy; all succeed later.
/// Method: a few hundred of them, a dependency that is sick for a second, and its calls and the releases counted.
async fn waits_for_what_is_sick<T: Task + Clone>(task: T, breaker: &str) {
    let dependency = Dependency::default();
    let rig = rig(&dependency).start().await;
    let handles = rig.enqueue_all(vec![task; 300]).await;
    until_state(&rig, breaker, BreakerState::Open).await;
    tokio::time::sleep(ms(1_000)).await;
    let released = rig.queues().await[0].counters.released;
    let sick = dependency.calls();
    dependency.heal();
    for handle in &handles {
        let record = rig.wait(handle).await;
        assert_eq!(record.state, TaskState::Succeeded, "{}", rig.probe);
        assert!(record.attempts < 9, "{record:?}");
    }
    until_state(&rig, breaker, BreakerState::Closed).await;
    // Until it opens at most what runs at once and three; then one for each time it was open.
    assert!(sick < 40, "{sick} calls of what was sick");
    assert!(released < 12_000, "{released} releases in a second");
    assert!(view(&rig, breaker).parked > 0);
    rig.stop().await;
}

#[test]
fn tasks_wait_for_their_kinds_breaker() {
    run(waits_for_what_is_sick(Own, "test.own"));
}

#[test]
fn tasks_wait_for_a_named_breaker() {
    run(waits_for_what_is_sick(Call, "bank"));
}

/// Goal: what one worker finds out holds for the others, and one probe serves all of them.
/// Method: two trees on the data of one broker; the second has seen no failure itself.
#[test]
fn workers_share_a_breaker() {
    run(async {
        let dependency = Dependency::default();
        let first = rig(&dependency).start().await;
        let second = rig(&dependency)
            .queues(["other"])
            .worker("second")
            .beside(&first)
            .start()
            .await;
        let handles = first.enqueue_all(vec![Call; 20]).await;
        until_state(&second, "bank", BreakerState::Open).await;
        assert_eq!(view(&second, "bank").failures, 0);
        let by = view(&second, "bank").record.by;
        assert_eq!(by, "rig");
        dependency.heal();
        for handle in &handles {
            assert_eq!(first.wait(handle).await.state, TaskState::Succeeded);
        }
        until_state(&second, "bank", BreakerState::Closed).await;
        let opened = first.probe.logged("breaker opened");
        assert!(opened[0].contains("failures in a row"), "{opened:?}");
        // The second may have missed the first opening, not the breaker.
        assert!(!second.probe.logged("breaker opened").is_empty());
        second.stop().await;
        first.stop().await;
    });
}

/// Goal: a probe whose worker is gone is another one's after its time.
/// Method: put a probe of nobody on the board, and see that tasks wait for its end and no longer.
#[test]
fn a_probe_that_nobody_ends_is_freed_by_time() {
    run(async {
        let dependency = Dependency::default();
        dependency.heal();
        let rig = rig(&dependency).start().await;
        let board = Board::of(rig.broker().clone());
        let now = rig.clock().now();
        let taken = |record: &BreakerRecord| {
            Some(BreakerRecord {
                state: BreakerState::HalfOpen,
                until: Some(now.plus(ms(1_500))),
                ..record.opened_by("gone", Some(Duration::ZERO), now)
            })
        };
        board.change(&name("bank"), now, taken).await.unwrap();
        until_state(&rig, "bank", BreakerState::HalfOpen).await;
        let handle = rig.enqueue(Call).await;
        assert_eq!(rig.wait(&handle).await.state, TaskState::Succeeded);
        assert!(rig.clock().now().since(now) >= ms(1_500));
        until_state(&rig, "bank", BreakerState::Closed).await;
        rig.stop().await;
    });
}

/// Goal: what somebody does by hand holds within a second or two, however the dependency is.
/// Method: open it on the board as the command does, see a task wait, close it.
#[test]
fn it_is_opened_and_closed_by_hand() {
    run(async {
        let dependency = Dependency::default();
        dependency.heal();
        let rig = rig(&dependency).start().await;
        let board = Board::of(rig.broker().clone());
        let bank = name("bank");
        let now = rig.clock().now();
        let open = |record: &BreakerRecord| Some(record.opened_by("ann", None, now));
        board.change(&bank, now, open).await.unwrap();
        until_state(&rig, "bank", BreakerState::Open).await;
        rig.run(Own).await.unwrap();
        let handle = rig.enqueue(Call).await;
        rig.probe.until(|| view(&rig, "bank").parked > 0).await;
        let close = |record: &BreakerRecord| record.closed_by("ann", now);
        board.change(&bank, now, close).await.unwrap();
        assert_eq!(rig.wait(&handle).await.state, TaskState::Succeeded);
        assert_eq!(dependency.calls(), 2);
        rig.stop().await;
    });
}

#[derive(Clone, Serialize, Deserialize)]
struct Ends(u8);
task!(Ends as "test.ends" -> (), Policy::default().max_attempts(1).hard_limit(ms(100)).breaker(strict()));

/// Opens at the first failure; a refusal is an answer.
fn strict() -> BreakerPolicy {
    BreakerPolicy::default()
        .consecutive(1)
        .open_for(ms(20), ms(20))
        .failure_if(|error| error.to_string() != "refused")
}

/// Goal: failures, panics and hard limits count; answers, snoozes and errors that the policy leaves out do not.
/// Method: one task that ends in each way, on a breaker that opens at the first failure.
#[test]
fn what_counts_as_a_failure() {
    run(async {
        for (case, opens) in [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1)] {
            let ran = Arc::new(AtomicUsize::new(0));
            let end = move |attempt: Attempt<Ends>| {
                let first = ran.fetch_add(1, Ordering::SeqCst) == 0;
                async move {
                    match attempt.args.0 {
                        1 => Err("refused".into()),
                        2 if first => Err(TaskError::snooze(ms(1))),
                        3 => std::future::pending().await,
                        4 => panic!("planned"),
                        5 => Err("sick".into()),
                        _ => Ok(()),
                    }
                }
            };
            let rig = Rig::builder().task(end).start().await;
            drop(rig.run(Ends(case)).await);
            let opened = rig.probe.logged("breaker opened");
            assert_eq!(opened.len(), opens, "{case}: {opened:?}");
            rig.stop().await;
        }
    });
}

/// An error that hides the one it came from, as error types of libraries do.
#[derive(Debug, thiserror::Error)]
#[error("the charge failed")]
struct Charge(#[source] super::BreakerOpen);

/// Goal: that a breaker was open is found behind what wraps it: the task is parked, and no attempt is used up.
/// Method: open it by hand for a while, and have the task wrap the error in one of its own.
#[test]
fn an_open_breaker_is_found_behind_an_error_that_wraps_it() {
    run(async {
        let rig = Rig::builder()
            .task(|attempt: Attempt<Call>| async move {
                let breaker = attempt.breaker("bank");
                let passage = breaker.enter().await.map_err(Charge)?;
                passage.success();
                Ok(())
            })
            .start()
            .await;
        let (board, now) = (Board::of(rig.broker().clone()), rig.clock().now());
        let open = |record: &BreakerRecord| Some(record.opened_by("ann", Some(ms(800)), now));
        board.change(&name("bank"), now, open).await.unwrap();
        let handle = rig.enqueue(Call).await;
        let record = rig.wait(&handle).await;
        assert_eq!((record.state, record.attempts), (TaskState::Succeeded, 1));
        rig.stop().await;
    });
}

/// Goal: changes survive what a broker does to calls, and are made once.
/// Method: lose replies and calls of both methods, and have two change the board at once.
#[test]
fn the_board_is_changed_once_whatever_happens_to_the_calls() {
    run(async {
        let clock = Arc::new(RunningClock::new());
        let broker = Arc::new(MemoryBroker::new(clock.clone()));
        let (here, there) = (
            Board::of(broker.clone()),
            Board::of(Arc::new(broker.another())),
        );
        let (now, bank) = (clock.now(), name("bank"));
        let open = |record: &BreakerRecord| {
            (record.state == BreakerState::Closed).then(|| record.opened_by("ann", None, now))
        };
        let (method, times) = (Method::Share, 1);
        broker.plan(Fault::LostReply { method, times });
        let (record, changed) = here.change(&bank, now, open).await.unwrap();
        assert!(changed, "the change was made, only its reply was lost");
        assert_eq!(there.read().await.unwrap()[&bank], record);
        let (_, changed) = there.change(&bank, now, open).await.unwrap();
        assert!(!changed);
        let others = [name("a"), name("b"), name("c"), name("d")];
        let one = |board: &Board, of: &BreakerName| {
            let (board, of) = (board.clone(), of.clone());
            async move { board.change(&of, now, open).await }
        };
        let all = others
            .iter()
            .flat_map(|of| [one(&here, of), one(&there, of)]);
        let all = futures_util::future::join_all(all).await;
        assert_eq!(all.iter().filter(|one| one.as_ref().unwrap().1).count(), 4);
        assert_eq!(here.read().await.unwrap().len(), 5);
    });
}

/// Goal: what cannot be read is left as it is, and the board has a bound.
#[test]
fn the_board_is_bounded_and_never_overwrites_what_it_cannot_read() {
    run(async {
        let broker = Arc::new(MemoryBroker::new(Arc::new(RunningClock::new())));
        let board = Board::of(broker.clone());
        let now = Timestamp::from_millis(1_000);
        let open = |record: &BreakerRecord| Some(record.opened_by("ann", None, now));
        for number in 0..MAX_BREAKERS {
            board
                .change(&name(&format!("b{number}")), now, open)
                .await
                .unwrap();
        }
        let full = board.change(&name("one-more"), now, open).await;
        assert_eq!(full, Err(BoardError::Full));
        let close = |record: &BreakerRecord| record.closed_by("ann", now);
        board.change(&name("b7"), now, close).await.unwrap();
        assert!(board.change(&name("one-more"), now, open).await.is_ok());
        assert_eq!(board.read().await.unwrap().len(), MAX_BREAKERS);

        let kept = broker.shared("breakers").await.unwrap().unwrap();
        let ttl = Duration::from_secs(60);
        broker
            .share("breakers", kept.version, b"{}", ttl)
            .await
            .unwrap();
        let refused = board.change(&name("b1"), now, open).await;
        assert!(
            matches!(refused, Err(BoardError::Unreadable(_))),
            "{refused:?}"
        );
        assert_eq!(
            broker.shared("breakers").await.unwrap().unwrap().value,
            b"{}"
        );
    });
}
