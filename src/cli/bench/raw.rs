//! The same steps at the broker without the runtime: what it could do at best.
//!
//! As many threads and connections as a daemon has: consumers on one thread per lane, producers beside them, both at once.
//! Frames are made beforehand, nothing is decoded, nothing is run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use celeriac_actors::envelope::Envelope;
use celeriac_actors::frame::{FrameLimits, encode, encode_value};
use celeriac_actors::header::{Header, Priority};
use celeriac_actors::ids::{ChannelId, IncarnationId, QueueName, TaskId, TaskName, WorkerId};
use celeriac_actors::lease::{ExchangeCall, Incarnation, MAX_BATCH, Outcome, Settlement};
use celeriac_actors::ports::{Broker, BrokerError, EnqueueCall, EnqueueKind, NewTask, When};
use celeriac_actors::task::Task;
use celeriac_actors::time::Clock;
use futures_util::future::try_join_all;

use super::ground::{Ground, failed};
use super::load::{self, CALLERS, Load, Noop};
use crate::cli::exit::Failure;
use crate::cli::session::Session;
use crate::clock::SystemClock;

/// How many consumers share a thread, so that one's call is at the server while another's reply is read.
const CONSUMERS: usize = 2;

/// How long a consumer waits for a bell before it looks whether all is done.
const LOOK: Duration = Duration::from_millis(20);

/// How many tasks there are, and how many of them are settled.
struct Goal {
    tasks: u64,
    settled: AtomicU64,
}

/// Takes a load from enqueue to settlement, and returns how long that took.
pub(super) async fn lifecycle(
    ground: &Ground,
    load: &Load,
    lanes: u16,
) -> Result<Duration, Failure> {
    let queue = load::queue()?;
    let frames = load.different().iter().map(frame);
    let frames = frames.collect::<Result<Vec<_>, _>>()?;
    let goal = Arc::new(Goal {
        tasks: load.tasks,
        settled: AtomicU64::new(0),
    });
    let mut threads = Vec::new();
    for lane in 0..lanes {
        let broker = Arc::clone(&ground.broker);
        let (queue, worker, goal) = (queue.clone(), ground.worker.clone(), Arc::clone(&goal));
        let (ended, end) = tokio::sync::oneshot::channel();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let run = move || {
            let consumers = consume(broker, (queue, worker, lane), goal, ready);
            // Whoever started it is gone when nobody listens.
            drop(ended.send(Session::block_on(consumers)));
        };
        std::thread::Builder::new()
            .name(format!("bench-{lane}"))
            .spawn(run)
            .map_err(Failure::unavailable)?;
        drop(is_ready.await);
        threads.push(end);
    }
    let start = SystemClock.since_boot();
    try_join_all((0..CALLERS).map(|caller| produce(ground, &queue, &frames, load.calls(caller))))
        .await?;
    let mut last = start;
    for thread in threads {
        let ended = thread.await.map_err(failed)??;
        last = last.max(ended?);
    }
    Ok(last.saturating_sub(start))
}

async fn produce(
    ground: &Ground,
    queue: &QueueName,
    frames: &[Vec<u8>],
    calls: impl Iterator<Item = u64>,
) -> Result<(), Failure> {
    let channel = ChannelId::random();
    let mut frames = frames.iter().cycle();
    for (number, count) in (1..).zip(calls) {
        let task = |(_, frame): (u64, &Vec<u8>)| NewTask {
            frame: frame.clone(),
            when: When::Now,
        };
        let call = EnqueueCall {
            queue: queue.clone(),
            channel,
            number,
            tasks: (0..count).zip(&mut frames).map(task).collect(),
            kind: EnqueueKind::New,
            remember: Duration::from_secs(30),
        };
        ground.broker.enqueue(Arc::new(call)).await?;
    }
    Ok(())
}

/// Runs the consumers of one thread; returns when the last of them had settled what was left.
async fn consume(
    broker: Arc<dyn Broker>,
    (queue, worker, lane): (QueueName, WorkerId, u16),
    goal: Arc<Goal>,
    ready: tokio::sync::oneshot::Sender<()>,
) -> Result<Duration, Failure> {
    let mut consumers = Vec::new();
    for _ in 0..CONSUMERS {
        let incarnation = Incarnation {
            id: IncarnationId::random(),
            queue: queue.clone(),
            worker: worker.clone(),
            lane,
            lease: Duration::from_secs(30),
        };
        broker.open(&incarnation).await?;
        consumers.push(incarnation);
    }
    // Whoever started it is gone when nobody listens.
    let _unheard = ready.send(());
    let drain = |incarnation: &Incarnation| {
        let (broker, goal) = (Arc::clone(&broker), Arc::clone(&goal));
        let incarnation = incarnation.clone();
        async move { drain(&*broker, &incarnation, &goal).await }
    };
    let ends = try_join_all(consumers.iter().map(drain)).await?;
    for incarnation in &consumers {
        broker.close(&incarnation.queue, incarnation.id).await?;
    }
    Ok(ends.into_iter().flatten().max().unwrap_or_default())
}

/// Settles and fetches until everything is settled; returns when this one settled last.
async fn drain(
    broker: &dyn Broker,
    incarnation: &Incarnation,
    goal: &Goal,
) -> Result<Option<Duration>, BrokerError> {
    let queues = [incarnation.queue.clone()];
    let (mut number, mut first_tag, mut last) = (0, 0, None);
    let mut settlements: Vec<Settlement> = Vec::new();
    while goal.settled.load(Ordering::Relaxed) < goal.tasks {
        number += 1;
        let settled = settlements.len() as u64;
        let call = ExchangeCall {
            queue: incarnation.queue.clone(),
            incarnation: incarnation.id,
            number,
            settlements: std::mem::take(&mut settlements),
            want: MAX_BATCH,
            first_tag,
        };
        let reply = broker.exchange(Arc::new(call)).await?;
        if settled > 0 {
            last = Some(SystemClock.since_boot());
            goal.settled.fetch_add(settled, Ordering::Relaxed);
        }
        first_tag += u64::from(MAX_BATCH);
        let settle = |tag| Settlement {
            tag,
            outcome: Outcome::Succeed { result: None },
        };
        settlements.extend(reply.deliveries.iter().map(|delivery| settle(delivery.tag)));
        if settlements.is_empty() && goal.settled.load(Ordering::Relaxed) < goal.tasks {
            broker.wait(&queues, LOOK).await?;
        }
    }
    Ok(last)
}

/// Makes the frame of a task, as the client does.
fn frame(noop: &Noop) -> Result<Vec<u8>, Failure> {
    let header = Header {
        compressed: false,
        want_outcome: false,
        priority: Priority::NORMAL,
        deliveries: 0,
        strikes: 0,
        attempts: 0,
        id: TaskId::fresh(),
        enqueued_at: SystemClock.now(),
        expires_at: None,
    };
    let envelope = Envelope::new(TaskName::new(Noop::NAME).map_err(failed)?);
    let args = encode_value(noop).map_err(failed)?;
    encode(header, &envelope, &args, &FrameLimits::default()).map_err(failed)
}
