//! Real processes as children: `cat`, under a name of its own for each test, so that they are found among all processes.

use std::path::Path;

use futures_util::FutureExt as _;
use slog::{Discard, o};
use tokio::time::Instant;

use super::*;
use celeriac_actors::ids::TaskId;

/// A child of this process: its state as the kernel names it, `Z` for one that was not waited for.
fn processes(name: &str) -> Vec<(u32, char)> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((head, tail)) = stat.rsplit_once(')') else {
            continue;
        };
        let mut fields = tail.split_whitespace();
        let (state, parent) = (fields.next().unwrap(), fields.next().unwrap());
        if head.ends_with(&format!("({name}")) && parent == own {
            found.push((pid, state.chars().next().unwrap()));
        }
    }
    found
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

struct Ground {
    _directory: tempfile::TempDir,
    name: &'static str,
    nursery: Nursery,
}

impl Ground {
    /// `name` has at most 15 bytes: the kernel keeps no more.
    fn new(name: &'static str, children: usize, ahead: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join(name);
        std::os::unix::fs::symlink(Path::new("/bin/cat"), &program).unwrap();
        let making = Making {
            program,
            hello: b"hello\n".to_vec(),
            log: Logger::root(Discard, o!()),
        };
        let options = IsolationOptions {
            children,
            ..IsolationOptions::default()
        };
        let nursery = Nursery::of(options, making, "host".to_owned(), ahead).unwrap();
        Self {
            _directory: directory,
            name,
            nursery,
        }
    }

    /// Lends a child; panics where there is none.
    async fn lend(&self, new: bool) -> Loan {
        let lent = self.nursery.shared.lend(new, None);
        let in_time = tokio::time::timeout(Duration::from_secs(60), lent).await;
        in_time.expect("a child in time").unwrap()
    }

    /// Returns how many processes there are, zombies too.
    fn count(&self) -> usize {
        processes(self.name).len()
    }

    async fn has(&self, count: usize) {
        let what = format!("{count} children that live");
        eventually(&what, || {
            let all = processes(self.name);
            all.len() == count && all.iter().all(|(_, state)| *state != 'Z')
        })
        .await;
    }

    async fn close(&self) {
        self.nursery.close_all().await;
        self.has(0).await;
    }
}

/// Goal: a child that nobody wants any more when it comes is kept, and waited for in the end.
/// Method: drop whoever waits for it while it is started, again and again.
#[tokio::test]
async fn a_child_that_is_not_wanted_any_more_is_kept() {
    let ground = Ground::new("nursery-unwant", 2, false);
    for _ in 0..20 {
        let mut lent = Box::pin(ground.nursery.shared.lend(false, None));
        // Where one is there by now, it ends with its loan.
        drop(lent.as_mut().now_or_never());
        drop(lent);
        assert!(ground.count() <= 2);
    }
    let mut loan = ground.lend(false).await;
    let socket = loan.take_socket().unwrap();
    loan.return_unused(Ok(socket));
    let lent = ground.nursery.shared.lend(false, None).now_or_never();
    assert!(lent.is_some_and(|lent| lent.is_ok()), "one is kept");
    ground.close().await;
}

/// Goal: a burst of deaths starts no more children than there may be, and leaves no zombie.
/// Method: children end all at once while attempts ask for new ones; processes are counted all along.
#[tokio::test]
async fn a_burst_of_deaths_starts_no_more_children_than_there_may_be() {
    let ground = Ground::new("nursery-burst", 3, true);
    ground.has(3).await;
    for round in 0..15 {
        let mut loans = Vec::new();
        for _ in 0..3 {
            let loan = ground.lend(round % 2 == 0).await;
            loan.nestling()
                .begin(&"test.task".parse().unwrap(), TaskId::fresh());
            loans.push(loan);
            assert!(ground.count() <= 3);
        }
        for loan in &loans {
            loan.nestling().signal(Signal::KILL);
        }
        drop(loans);
        for _ in 0..5 {
            assert!(ground.count() <= 3);
            tokio::task::yield_now().await;
        }
    }
    ground.has(3).await;
    let known = || ground.nursery.statuses().len() == 3;
    eventually("all are known", known).await;
    ground.close().await;
}

/// Goal: children that die while they have nothing to do are waited for, and not started again and again.
#[tokio::test]
async fn a_child_that_dies_idle_is_waited_for() {
    let ground = Ground::new("nursery-idle", 2, true);
    ground.has(2).await;
    for (pid, _) in processes(ground.name) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }
    ground.has(0).await;
    drop(ground.lend(false).await);
    ground.close().await;
}

/// Goal: whoever wants a new child gets one although used ones take up all the room.
#[tokio::test]
async fn used_children_make_room_for_a_new_one() {
    let ground = Ground::new("nursery-room", 2, false);
    let loans = [ground.lend(false).await, ground.lend(false).await];
    let used = loans.each_ref().map(|loan| loan.nestling().pid);
    for mut loan in loans {
        let socket = loan.take_socket().unwrap();
        loan.give_back(Ok(socket));
    }
    let new = ground.lend(true).await;
    assert!(!used.contains(&new.nestling().pid) && new.nestling().is_new());
    let old = ground.lend(false).await;
    assert!(used.contains(&old.nestling().pid), "one of them was kept");
    assert_eq!(ground.count(), 2);
    let (new, old) = tokio::join!(new.end(), old.end());
    for ending in [new, old] {
        assert!(ending.to_string().contains("SIGKILL"), "{ending}");
    }
    ground.close().await;
}

/// Goal: a program that cannot be started is told to everybody who waits, and the places are free again.
#[tokio::test]
async fn a_child_that_cannot_be_started_is_an_error() {
    let making = Making {
        program: "/nowhere/to/be/found".into(),
        hello: Vec::new(),
        log: Logger::root(Discard, o!()),
    };
    let options = IsolationOptions {
        children: 1,
        ..IsolationOptions::default()
    };
    let nursery = Nursery::of(options, making, "host".to_owned(), true).unwrap();
    for _ in 0..3 {
        assert!(nursery.shared.lend(false, None).await.is_err());
    }
    nursery.close_all().await;
    assert!(nursery.shared.lend(false, None).await.is_err());
}
