//! What happens to a server at work: its connections are killed, its scripts forgotten, its memory is full, its data
//! wiped, its master is another one.

use std::time::Duration;

use tokio::time::Instant;

use crate::daemon::eventually;
use crate::redis_load::{Load, Shape};
use crate::redis_server::{RedisServer, ServerOptions};
use crate::redis_topology::RedisSentinel;
use crate::redis_works::{Job, Works, add, client, settled};

const LEASE: Duration = Duration::from_secs(4);

const SHAPE: Shape = Shape {
    producers: 3,
    job: |number| Job {
        number,
        ms: if number.is_multiple_of(40) { 700 } else { 2 },
    },
    countdown: |number| (number % 7 == 3).then_some(Duration::from_millis(300)),
    rest: Duration::from_millis(10),
};

/// Goal: a server that forgets its scripts and drops its clients, again and again, costs nothing: no task, no attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgotten_scripts_and_killed_connections_cost_nothing() {
    let server = RedisServer::start(ServerOptions::default());
    let works = Works::start(&server.url(), LEASE).await;
    let client = client(&server.url(), Duration::from_secs(20));
    let load = Load::start(&client, SHAPE);
    load.more(200).await;
    let mut connection = server.connect();
    for round in 0..40 {
        let mut ask = |words: &str| {
            let words: Vec<_> = words.split(' ').collect();
            connection.ask(&words).unwrap()
        };
        if round % 2 == 0 {
            ask("SCRIPT FLUSH");
        }
        ask("CLIENT KILL TYPE normal");
        ask("CLIENT KILL TYPE pubsub");
        tokio::time::sleep(Duration::from_millis(70)).await;
    }
    load.more(200).await;
    let loaded = load.finish().await;
    assert!(loaded.failed.is_empty(), "{:?}", loaded.failed);
    works.all_end(loaded.acknowledged.keys().copied()).await;
    let counted = settled(&*works.broker).await;
    let all = loaded.acknowledged.len() as u64;
    assert_eq!((counted.enqueued, counted.succeeded), (all, all));
    assert_eq!(
        (counted.stale, counted.rescued, counted.released),
        (0, 0, 0)
    );
    assert_eq!(works.runs.doubled(), Vec::<u64>::new());
    works.stop().await;
}

/// Goal: data that are wiped under a runtime are lost, and nothing else: its consumers open again and new tasks run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wiped_data_are_lost_and_new_tasks_run() {
    let server = RedisServer::start(ServerOptions::default());
    let works = Works::start(&server.url(), LEASE).await;
    let client = client(&server.url(), Duration::from_secs(20));
    let job = |number| Job { number, ms: 30 };
    for round in 0..3 {
        let numbers = round * 100..(round + 1) * 100;
        let jobs: Vec<Job> = numbers.clone().map(job).collect();
        add(&client, &jobs).await.unwrap();
        works.all_end(numbers).await;
        // Some are in flight, some are ready when everything is wiped.
        let lost: Vec<Job> = (0..200).map(|i| job(10_000 + round * 1_000 + i)).collect();
        add(&client, &lost).await.unwrap();
        eventually("one of them runs", async || {
            let all = works.runs.all();
            let first = all.range(10_000 + round * 1_000..).next();
            first.is_some().then_some(())
        })
        .await;
        server.ask(&["FLUSHALL"]);
    }
    let jobs: Vec<Job> = (5_000..5_100).map(job).collect();
    add(&client, &jobs).await.unwrap();
    works.all_end(5_000..5_100).await;
    settled(&*works.broker).await;
    works.stop().await;
}

/// Goal: behind sentinels a failover is followed: what was replicated is not lost, and work goes on within seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_is_followed_under_load() {
    let mut group = RedisSentinel::start(1);
    let works = Works::start(&group.url(), LEASE).await;
    let client = client(&group.url(), Duration::from_secs(20));
    for kill in [false, true] {
        let load = Load::start(&client, SHAPE);
        load.more(200).await;
        group.wait_ready();
        let before = group.master_port();
        // What is acknowledged from here on may not be replicated.
        let doubtful = Instant::now();
        group.wait_replicated();
        if kill {
            group.kill_master();
            group.wait_other_than(before);
        } else {
            group.failover();
        }
        let idle = works.first_start(Instant::now()).await;
        assert!(idle < Duration::from_secs(20), "idle for {idle:?}");
        if !kill {
            // Until he follows, the master of before acknowledges what he will forget.
            group.wait_ready();
        }
        let settled_on = Instant::now();
        load.more(200).await;
        let loaded = load.finish().await;
        settled(&*works.broker).await;
        for (number, at) in &loaded.acknowledged {
            let certain = *at < doubtful || *at > settled_on;
            let ended = works.runs.has_ended(*number);
            assert!(ended || !certain, "{number} is lost, acknowledged {at:?}");
        }
        works.runs.clear();
    }
    works.stop().await;
}
