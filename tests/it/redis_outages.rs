//! The server is killed under load and comes back: what each durability class keeps, and what the outage costs.

use std::time::Duration;

use tokio::time::Instant;

use crate::daemon::eventually;
use crate::redis_load::{Load, Loaded, Shape};
use crate::redis_server::{Persistence, RedisServer, ServerOptions, wait_until};
use crate::redis_works::{Job, Works, client, settled};

/// How long the server stays away: longer than the lease.
const AWAY: Duration = Duration::from_secs(3);
const LEASE: Duration = Duration::from_secs(2);
/// Within this of the server's return consumers have fetched again.
const RETURN: Duration = Duration::from_secs(5);
/// What a log that is synced each second may lose.
const TAIL: Duration = Duration::from_secs(2);

/// Most jobs are quick; some run through the whole outage.
fn job(number: u64) -> Job {
    let ms = if number.is_multiple_of(50) { 4_500 } else { 3 };
    Job { number, ms }
}

/// Some jobs wait for a while, so that the broker always holds what it was given a moment ago.
fn countdown(number: u64) -> Option<Duration> {
    (number % 3 == 1).then_some(Duration::from_secs(2))
}

const SHAPE: Shape = Shape {
    producers: 4,
    job,
    countdown,
    rest: Duration::from_millis(15),
};

/// When what happened.
struct Outage {
    killed: Instant,
    back: Instant,
    loaded: Loaded,
}

/// Kills the server, starts it again, and waits until its consumers work again.
async fn outage(server: &mut RedisServer, works: &Works, load: Load) -> Outage {
    let killed = Instant::now();
    server.kill();
    tokio::time::sleep(AWAY).await;
    server.restart();
    let back = Instant::now();
    let first = eventually("a job is started after the outage", async || {
        let all = works.runs.all();
        let mut runs = all.values().flatten();
        runs.find(|run| run.started > back).map(|run| run.started)
    });
    let first = first.await;
    assert!(first - back < RETURN, "idle for {:?}", first - back);
    load.more(500).await;
    let loaded = load.finish().await;
    Outage {
        killed,
        back,
        loaded,
    }
}

/// Waits until the log tells of one outage and its end; asserts that it tells of nothing else.
async fn one_outage(works: &Works) {
    eventually("the outage is over", async || {
        (works.log.count("INFO is back") > 0).then_some(())
    })
    .await;
    let counts = (works.log.count("is away"), works.log.count("INFO is back"));
    assert_eq!(counts, (1, 1), "{:#?}", works.log.lines());
}

/// Goal: at AOF always a kill of the server loses nothing, and no task of a living worker runs twice because of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_synced_always_loses_nothing() {
    let mut server = RedisServer::start(ServerOptions {
        persistence: Persistence::AofAlways,
        ..ServerOptions::default()
    });
    let works = Works::start(&server.url(), LEASE).await;
    let client = client(&server.url(), Duration::from_secs(20));
    let load = Load::start(&client, SHAPE);
    load.more(500).await;
    let Outage { loaded, .. } = outage(&mut server, &works, load).await;
    assert!(loaded.failed.is_empty(), "{:?}", loaded.failed);
    works.all_end(loaded.acknowledged.keys().copied()).await;
    let counted = settled(&*works.broker).await;
    let all = loaded.acknowledged.len() as u64;
    assert_eq!((counted.enqueued, counted.succeeded), (all, all));
    assert_eq!((counted.stale, counted.rescued), (0, 0));
    assert_eq!(works.runs.doubled(), Vec::<u64>::new());
    one_outage(&works).await;
    works.stop().await;
}

/// Goal: at AOF everysec on a slow disk, what is lost was acknowledged within the last two seconds; what runs twice was
/// at work or had just ended; producers and consumers go on without a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_synced_each_second_loses_its_tail_alone() {
    let mut server = RedisServer::start(ServerOptions {
        slow_sync: Some(Duration::from_secs(1)),
        ..ServerOptions::default()
    });
    let works = Works::start(&server.url(), LEASE).await;
    let client = client(&server.url(), Duration::from_secs(20));
    let load = Load::start(&client, SHAPE);
    // Long enough for a part of it to be synced.
    load.more(3_000).await;
    // What is written during a sync stays in the process.
    wait_until("much is not in the log", || {
        let length: u64 = server.info("aof_buffer_length").parse().unwrap();
        (length > 150_000).then_some(())
    });
    let outage = outage(&mut server, &works, load).await;
    let Loaded {
        acknowledged,
        failed,
    } = outage.loaded;
    assert!(failed.is_empty(), "{failed:?}");
    settled(&*works.broker).await;
    let runs = works.runs.all();
    let (mut lost, mut kept) = (0, 0);
    for (number, at) in &acknowledged {
        if works.runs.has_ended(*number) {
            kept += 1;
            continue;
        }
        lost += 1;
        let before = outage.killed.saturating_duration_since(*at);
        assert!(*at <= outage.back && before < TAIL, "{number}: {before:?}");
    }
    assert!(lost > 0 && kept > lost, "lost {lost}, kept {kept}");
    for number in works.runs.doubled() {
        let [first, second, rest @ ..] = runs[&number].as_slice() else {
            unreachable!("it is doubled")
        };
        assert!(rest.is_empty(), "{number} ran more than twice");
        let ended = first.ended.unwrap_or(outage.back);
        assert!(ended + TAIL > outage.killed, "{number} had ended long ago");
        assert!(ended < second.started, "{number} ran beside itself");
    }
    one_outage(&works).await;
    works.stop().await;
}
