//! Who waits is told, and nobody has to ask: bursts reach everybody, lost tokens are made up for, results are pushed, and
//! an idle runtime leaves the server alone.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use celeriac_actors::ids::ChannelId;
use celeriac_actors::ports::{Broker, EnqueueCall, EnqueueKind, Wake};
use celeriac_actors::producer::EnqueueOptions;
use celeriac_actors::testkit::conformance::{Consumer, outcome, task};
use tokio::time::Instant;

use crate::daemon::{PATIENCE, eventually};
use crate::redis_server::{RedisServer, ServerOptions};
use crate::redis_shared::{namespace, open, open_as, server, with};
use crate::redis_works::{Job, Works, add, client, incarnation, queue, settled, status};

/// How many processes wait.
const PROCESSES: usize = 16;
/// How many tasks come at once.
const BURST: u128 = 1_000;

/// Which processes fetched something.
type Fetched = Arc<Mutex<BTreeSet<usize>>>;

/// Waits for bells and drains, twenty tasks at a time.
async fn process(number: usize, broker: Arc<dyn Broker>, fetched: Fetched) {
    let incarnation = incarnation("w1");
    broker.open(&incarnation).await.unwrap();
    let mut consumer = Consumer::new(Arc::clone(&broker), incarnation);
    loop {
        let wakes = broker.wait(&[queue()], PATIENCE).await;
        if !wakes.unwrap().contains(&Wake::Ready(queue())) {
            continue;
        }
        let mut held = Vec::new();
        loop {
            let next = consumer.exchange(std::mem::take(&mut held), 20).await;
            if next.deliveries.is_empty() {
                break;
            }
            fetched.lock().unwrap().insert(number);
            let deliveries = next.deliveries.iter();
            held.extend(deliveries.map(|delivery| (delivery.tag, outcome::succeed())));
            // It is busy for a while.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Adds tasks with one call.
async fn enqueue(broker: &impl Broker, numbers: std::ops::Range<u128>) {
    let call = EnqueueCall {
        queue: queue(),
        channel: ChannelId::random(),
        number: 1,
        tasks: numbers.map(task).collect(),
        kind: EnqueueKind::New,
        remember: Duration::from_secs(60),
    };
    broker.enqueue(Arc::new(call)).await.unwrap();
}

/// Goal: a burst reaches those who wait while there is still something to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_reaches_every_idle_process() {
    let url = with(&server().url(), "namespace", &namespace("burst"));
    let fetched = Fetched::default();
    for number in 0..PROCESSES {
        let broker: Arc<dyn Broker> = Arc::new(open_as(&url, &format!("w{number}")));
        tokio::spawn(process(number, broker, Arc::clone(&fetched)));
    }
    let broker = open(&url);
    eventually("everybody is here", async || {
        let status = status(&broker).await?;
        (status.consumers == PROCESSES as u64).then_some(())
    })
    .await;
    for first in [0, BURST / 2] {
        enqueue(&broker, first..first + BURST / 2).await;
    }
    let counted = settled(&broker).await;
    assert_eq!(u128::from(counted.succeeded), BURST);
    // It was worked off while they came: without their bells they would have slept through it.
    let fetched = fetched.lock().unwrap();
    assert!(fetched.len() > PROCESSES / 2, "only {fetched:?}");
}

/// Makes consumers, adds so many tasks with each call, and returns how many tokens lie there after each.
async fn rung(consumers: usize, calls: &[u128]) -> Vec<String> {
    let namespace = namespace("rung");
    let broker = open(&with(&server().url(), "namespace", &namespace));
    for _ in 0..consumers {
        broker.open(&incarnation("w1")).await.unwrap();
    }
    let (mut first, mut tokens) = (0, Vec::new());
    for tasks in calls {
        enqueue(&broker, first..first + tasks).await;
        first += tasks;
        let wake = format!("{namespace}:{{default}}:wake");
        tokens.push(server().ask(&["LLEN", &wake]).text());
    }
    tokens
}

/// Goal: a burst rings for as many as it is worth, a few tasks for one; never for more than could come, and tokens that
/// nobody takes do not pile up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_rings_for_as_many_as_it_is_worth() {
    assert_eq!(rung(40, &[1, 1, 30]).await, ["1", "1", "1"]);
    assert_eq!(rung(40, &[33, 500, 500]).await, ["2", "14", "14"]);
    assert_eq!(rung(40, &[500, 500]).await, ["16", "16"]);
    assert_eq!(rung(3, &[500]).await, ["3"]);
    assert_eq!(rung(0, &[500, 500]).await, ["1", "1"]);
}

/// Goal: a paused queue rings for no burst either; its resumption rings for all who could come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_that_waited_for_its_queue_rings_when_that_resumes() {
    let namespace = namespace("resumed");
    let broker = open(&with(&server().url(), "namespace", &namespace));
    for _ in 0..4 {
        broker.open(&incarnation("w1")).await.unwrap();
    }
    let wake = format!("{namespace}:{{default}}:wake");
    let tokens = || server().ask(&["LLEN", &wake]).text();
    broker.pause(&queue(), true).await.unwrap();
    enqueue(&broker, 0..500).await;
    assert_eq!(tokens(), "0");
    broker.pause(&queue(), false).await.unwrap();
    assert_eq!(tokens(), "4");
}

/// Goal: one task wakes one of those who wait; a burst wakes all, before anybody has fetched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_task_wakes_one_and_a_burst_wakes_all() {
    let server = RedisServer::start(ServerOptions::default());
    let broker = open(&server.url());
    let (told, mut heard) = tokio::sync::mpsc::channel(PROCESSES);
    for number in 0..PROCESSES {
        let broker = open_as(&server.url(), &format!("w{number}"));
        broker.open(&incarnation("w1")).await.unwrap();
        let told = told.clone();
        tokio::spawn(async move {
            loop {
                let wakes = broker.wait(&[queue()], PATIENCE).await.unwrap();
                if wakes.contains(&Wake::Ready(queue())) {
                    told.send(number).await.unwrap();
                }
            }
        });
    }
    let all_wait = async || {
        eventually("everybody waits", async || {
            let waiting = server.info("blocked_clients");
            (waiting == PROCESSES.to_string()).then_some(())
        })
        .await;
    };
    all_wait().await;
    enqueue(&broker, 0..1).await;
    heard.recv().await.unwrap();
    let second = tokio::time::timeout(Duration::from_millis(500), heard.recv()).await;
    assert!(second.is_err(), "{second:?} was woken too");

    all_wait().await;
    assert_eq!(server.ask(&["DEL", "celeriac:{default}:r5"]).text(), "1");
    enqueue(&broker, 1..501).await;
    let mut woken = BTreeSet::new();
    while woken.len() < PROCESSES {
        woken.insert(heard.recv().await.unwrap());
    }
}

/// Goal: tasks that are ready without a token in the wake list are found all the same.
/// Method: enqueue to a paused queue, which rings for nobody, and resume it behind the broker's back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_token_is_made_up_for() {
    let namespace = namespace("lost");
    let url = with(&server().url(), "namespace", &namespace);
    let works = Works::start(&url, Duration::from_secs(12)).await;
    let client = client(&url, PATIENCE);
    works.broker.pause(&queue(), true).await.unwrap();
    add(&client, &[Job { number: 1, ms: 0 }]).await.unwrap();
    let root = format!("{namespace}:{{default}}:");
    assert_eq!(
        server().ask(&["EXISTS", &format!("{root}wake")]).text(),
        "0"
    );
    assert_eq!(server().ask(&["HDEL", &root, "paused"]).text(), "1");
    works.all_end([1]).await;
    works.stop().await;
}

/// Returns how often the server was called with any of these commands.
fn calls(server: &RedisServer, commands: &[&str]) -> u64 {
    let calls = |command: &&str| {
        let line = server.info(&format!("cmdstat_{command}"));
        let count = line
            .strip_prefix("calls=")
            .and_then(|line| line.split(',').next());
        count.map_or(0, |count| count.parse().unwrap())
    };
    commands.iter().map(calls).sum()
}

/// Goal: whoever waits for results is told, and hardly asks meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_are_pushed() {
    const WAITING: u64 = 20;
    let server = RedisServer::start(ServerOptions::default());
    let works = Works::start(&server.url(), Duration::from_secs(12)).await;
    let client = client(&server.url(), PATIENCE);
    let mut waiting = Vec::new();
    for number in 0..WAITING {
        let job = Job { number, ms: 6_000 };
        let options = EnqueueOptions::default().want_outcome();
        let handle = client.enqueue_with(&job, options).await.unwrap();
        let client = client.clone();
        waiting.push(tokio::spawn(async move {
            let output = client.wait::<Job>(&handle, PATIENCE).await.unwrap();
            (output, Instant::now())
        }));
    }
    eventually("all are subscribed", async || {
        let channels = server.info("pubsub_channels").parse::<u64>().unwrap();
        (channels > WAITING).then_some(())
    })
    .await;
    for (number, told) in (0..WAITING).zip(waiting) {
        let (output, at) = told.await.unwrap();
        assert_eq!(output, number);
        let ended = works.runs.all()[&number][0].ended.unwrap();
        // Whoever was not told looks again every five seconds: four after the end.
        assert!(at - ended < Duration::from_secs(3), "{:?}", at - ended);
    }
    // Before and after subscribing, at the looks every five seconds, and once told.
    let asked = calls(&server, &["mget"]);
    assert!(
        asked <= 6 * WAITING,
        "{asked} questions for {WAITING} results"
    );
    works.stop().await;
}

/// Goal: a runtime without work makes fewer than six calls a second: two of three for the monitor, one for its beat, and
/// what keeps leases, promotes and waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_runtime_leaves_the_server_alone() {
    const CLIENTS: &[&str] = &[
        "eval", "evalsha", "blpop", "mget", "ping", "smembers", "hdel",
    ];
    let server = RedisServer::start(ServerOptions::default());
    let works = Works::start(&server.url(), Duration::from_secs(12)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = calls(&server, CLIENTS);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let made = calls(&server, CLIENTS) - before;
    assert!(made < 30, "{made} calls in five seconds");
    works.stop().await;
}
