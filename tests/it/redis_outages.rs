//! The server is killed under load and comes back: what each durability class keeps, and what the outage costs.

use std::collections::BTreeMap;
use std::time::Duration;

use celeriac_actors::producer::EnqueueError;
use rustix::process::Signal;
use tokio::time::Instant;

use crate::daemon::eventually;
use crate::redis_load::{Load, Loaded, Shape};
use crate::redis_server::{Persistence, RedisServer, ServerOptions, wait_until};
use crate::redis_topology::RedisCluster;
use crate::redis_works::{Job, Works, add, client, settled};

/// How long the server stays away: longer than the lease.
const AWAY: Duration = Duration::from_secs(6);
/// Longer than a busy machine keeps a process waiting: nobody may lose a lease for that.
const LEASE: Duration = Duration::from_secs(5);
/// Within this of the server's return consumers have fetched again.
const RETURN: Duration = Duration::from_secs(20);
/// What a log that is synced each second may lose: two seconds, and what a busy machine adds to them.
const TAIL: Duration = Duration::from_secs(4);

/// Most jobs are quick; some run through the whole outage.
fn job(number: u64) -> Job {
    let ms = if number.is_multiple_of(50) { 8_000 } else { 3 };
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
    let idle = works.first_start(back).await;
    assert!(idle < RETURN, "idle for {idle:?}");
    load.more(500).await;
    let loaded = load.finish().await;
    Outage {
        killed,
        back,
        loaded,
    }
}

/// Waits until the log tells of the outage and its end. On a busy machine a server that has just come back may answer late
/// once more; what is asserted is that every outage ends, and that not every call that fails is told.
async fn few_outages(works: &Works) {
    let begun = eventually("the outage is over", async || {
        let counts = (
            works.log.count("WARN is away"),
            works.log.count("INFO is back"),
        );
        (counts.0 > 0 && counts.0 == counts.1).then_some(counts.0)
    })
    .await;
    assert!(begun <= 4, "{:#?}", works.log.lines());
}

/// Asserts that what is lost was acknowledged in the last moments before the kill, that what ran twice was at work then or
/// had just ended, and that nothing ran beside itself. Returns how much is lost.
fn lost_of_the_tail(
    works: &Works,
    acknowledged: &BTreeMap<u64, Instant>,
    killed: Instant,
    back: Instant,
) -> usize {
    let (mut lost, mut kept) = (0, 0);
    for (number, at) in acknowledged {
        if works.runs.has_ended(*number) {
            kept += 1;
            continue;
        }
        lost += 1;
        let before = killed.saturating_duration_since(*at);
        assert!(*at <= back && before < TAIL, "{number}: {before:?}");
    }
    assert!(kept > lost, "lost {lost}, kept {kept}");
    let runs = works.runs.all();
    for number in works.runs.doubled() {
        let [first, second, rest @ ..] = runs[&number].as_slice() else {
            unreachable!("it is doubled")
        };
        assert!(rest.is_empty(), "{number} ran more than twice");
        let ended = first.ended.unwrap_or(back);
        assert!(ended + TAIL > killed, "{number} had ended long ago");
        // Whoever learns that his incarnation is gone drops what he runs, which has no end then.
        let over = first.ended.is_none_or(|ended| ended < second.started);
        assert!(
            over,
            "{number} ran beside itself: {runs:?}",
            runs = runs[&number]
        );
    }
    lost
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
    few_outages(&works).await;
    works.stop().await;
}

/// Goal: outages in a row, each shorter than half a lease, take no lease from anybody.
/// Method: jobs longer than all of it, and a server that is there only for moments.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_outages_in_a_row_close_nobody() {
    let mut server = RedisServer::start(ServerOptions {
        persistence: Persistence::AofAlways,
        ..ServerOptions::default()
    });
    let works = Works::start(&server.url(), 2 * LEASE).await;
    let client = client(&server.url(), Duration::from_secs(20));
    let jobs: Vec<Job> = (0..10).map(|number| Job { number, ms: 20_000 }).collect();
    add(&client, &jobs).await.unwrap();
    eventually("all jobs run", async || {
        (works.runs.all().len() == 10).then_some(())
    })
    .await;
    for round in 1..=5 {
        server.kill();
        tokio::time::sleep(LEASE * 9 / 10).await;
        server.restart();
        eventually("the outage is over", async || {
            (works.log.count("INFO is back") >= round).then_some(())
        })
        .await;
        tokio::time::sleep(LEASE / 2).await;
    }
    works.all_end(0..10).await;
    let counted = settled(&*works.broker).await;
    assert_eq!((counted.enqueued, counted.succeeded), (10, 10));
    assert_eq!((counted.stale, counted.rescued), (0, 0));
    assert_eq!(works.runs.doubled(), Vec::<u64>::new());
    works.stop().await;
}

/// Goal: at AOF everysec on a slow disk, what is lost was acknowledged within the last seconds; what runs twice was
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
        (length > 40_000).then_some(())
    });
    let outage = outage(&mut server, &works, load).await;
    let Loaded {
        acknowledged,
        failed,
    } = outage.loaded;
    assert!(failed.is_empty(), "{failed:?}");
    settled(&*works.broker).await;
    let lost = lost_of_the_tail(&works, &acknowledged, outage.killed, outage.back);
    assert!(lost > 0, "it tested nothing");
    few_outages(&works).await;
    works.stop().await;
}

/// Goal: a node of a cluster that is killed and comes back is an outage of the queues it has, and no more than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_a_cluster_may_leave_and_return() {
    let mut cluster = RedisCluster::start();
    let works = Works::start(&cluster.url(), LEASE).await;
    let client = client(&cluster.url(), Duration::from_secs(20));
    let load = Load::start(&client, SHAPE);
    load.more(500).await;
    let port = cluster.node_of("{default}").port;
    let mut nodes = cluster.nodes.iter_mut();
    let node = nodes.find(|node| node.port == port).unwrap();
    let outage = outage(node, &works, load).await;
    let loaded = outage.loaded;
    assert!(loaded.failed.is_empty(), "{:?}", loaded.failed);
    settled(&*works.broker).await;
    lost_of_the_tail(&works, &loaded.acknowledged, outage.killed, outage.back);
    // Other nodes go on answering, so it may come and go more than once.
    eventually("the outage is over", async || {
        let counts = (
            works.log.count("WARN is away"),
            works.log.count("INFO is back"),
        );
        (counts.0 == counts.1).then_some(())
    })
    .await;
    works.stop().await;
}

/// Goal: a server that does not answer for longer than calls wait carries out late what was asked for, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_freezes_carries_out_everything_once() {
    let server = RedisServer::start(ServerOptions::default());
    let works = Works::start(&server.url(), LEASE).await;
    let client = client(&server.url(), Duration::from_secs(20));
    let load = Load::start(&client, SHAPE);
    load.more(500).await;
    server.signal(Signal::STOP);
    tokio::time::sleep(AWAY).await;
    server.signal(Signal::CONT);
    let idle = works.first_start(Instant::now()).await;
    assert!(idle < RETURN, "idle for {idle:?}");
    load.more(500).await;
    let loaded = load.finish().await;
    assert!(loaded.failed.is_empty(), "{:?}", loaded.failed);
    works.all_end(loaded.acknowledged.keys().copied()).await;
    let counted = settled(&*works.broker).await;
    let all = loaded.acknowledged.len() as u64;
    assert_eq!((counted.enqueued, counted.succeeded), (all, all));
    assert_eq!((counted.stale, counted.rescued), (0, 0));
    assert_eq!(works.runs.doubled(), Vec::<u64>::new());
    few_outages(&works).await;
    works.stop().await;
}

/// Goal: an enqueue to a server that is away, or silent, fails within its time and says what may have become of the tasks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enqueue_gives_up_in_time_and_says_what_is_known() {
    let mut server = RedisServer::start(ServerOptions::default());
    // Sooner than the broker itself gives up, which knows more.
    let client = client(&server.url(), Duration::from_secs(1));
    let jobs = [1, 2].map(job);
    let added = async || add(&client, &jobs).await.ok();
    eventually("a first enqueue has connected", added).await;
    server.signal(Signal::STOP);
    for silent in [true, false] {
        if !silent {
            server.kill();
        }
        let from = Instant::now();
        let error = add(&client, &jobs).await.unwrap_err();
        assert!(from.elapsed() < Duration::from_secs(20), "{error}");
        let EnqueueError::Unavailable {
            accepted, unknown, ..
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!((accepted, unknown), (0, 2));
    }
    server.restart();
    eventually("the server takes tasks again", added).await;
}
