//! The stage on which a case plays: a broker, one queue, a producer, consumers that count, and the queue as text.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use super::{Consumer, Harness};
use crate::header::{Header, Priority};
use crate::ids::{ChannelId, IncarnationId, QueueName, TaskId, WorkerId};
use crate::lease::{FinalRecord, Incarnation, MAX_BATCH, Outcome, Swept};
use crate::ports::{
    Broker, Counters, EnqueueCall, EnqueueKind, NewTask, QueueStatus, ScanRequest, Wake, When,
};
use crate::state::{DeadReason, TaskState};
use crate::testkit::label;
use crate::time::Timestamp;

/// Fails the case unless both are equal; says which rule broke and shows both.
///
/// # Panics
/// When they differ.
#[track_caller]
pub fn rule<T: Debug + PartialEq>(rule: &str, found: T, expected: T) {
    assert!(
        found == expected,
        "{rule}\n  expected: {expected:?}\n     found: {found:?}"
    );
}

/// Returns the bytes of task `number` with a priority. Its body is its number.
#[must_use]
pub fn frame(number: u128, priority: u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(60);
    header(number, priority).write(&mut bytes);
    bytes.extend_from_slice(number.to_string().as_bytes());
    bytes
}

pub(super) fn header(number: u128, priority: u8) -> Header {
    Header {
        compressed: false,
        want_outcome: false,
        priority: Priority::new(priority).expect("cases use 0 to 9"),
        deliveries: 0,
        strikes: 0,
        attempts: 0,
        id: id(number),
        enqueued_at: Timestamp::from_millis(1_000),
        expires_at: None,
    }
}

/// Returns the id of task `number`.
pub(super) fn id(number: u128) -> TaskId {
    TaskId::from(uuid::Uuid::from_u128(number))
}

/// Returns task `number` of normal priority, ready at once.
#[must_use]
pub fn task(number: u128) -> NewTask {
    NewTask {
        frame: frame(number, 5),
        when: When::Now,
    }
}

/// Makes outcomes of tasks by their number.
pub mod outcome {
    use super::*;

    /// Ends it well, without a result.
    #[must_use]
    pub const fn succeed() -> Outcome {
        Outcome::Succeed { result: None }
    }

    /// Lets it run again after `delay`.
    #[must_use]
    pub fn retry(number: u128, delay: Duration) -> Outcome {
        Outcome::Retry {
            frame: frame(number, 5),
            delay,
        }
    }

    /// Buries it as it is.
    #[must_use]
    pub fn bury() -> Outcome {
        Outcome::Bury {
            frame: None,
            reason: DeadReason::Permanent,
            note: "no use".into(),
            result: None,
        }
    }

    /// Makes the record of a task that ended, kept for a minute.
    #[must_use]
    pub fn record(number: u128, state: TaskState) -> FinalRecord {
        FinalRecord {
            progress: None,
            id: id(number),
            state,
            body: vec![1, 2, 3],
            attempts: 1,
            ttl: Duration::from_secs(60),
        }
    }
}

/// A broker with one queue, and a producer's channel into it.
#[derive(Debug)]
pub struct Stage<H> {
    /// The strings attached.
    pub harness: H,
    /// The handle of one process.
    pub broker: Arc<dyn Broker>,
    /// The queue.
    pub queue: QueueName,
    channel: ChannelId,
    calls: u64,
}

impl<H: Harness> Stage<H> {
    /// Sets the stage, without data.
    pub async fn fresh() -> Self {
        let harness = H::fresh().await;
        Self {
            broker: harness.broker(),
            harness,
            queue: QueueName::new("conformance").expect("it is a name"),
            channel: ChannelId::random(),
            calls: 0,
        }
    }

    /// Returns the next call of the producer.
    pub fn call(&mut self, tasks: Vec<NewTask>) -> EnqueueCall {
        self.calls += 1;
        EnqueueCall {
            queue: self.queue.clone(),
            channel: self.channel,
            number: self.calls,
            tasks,
            kind: EnqueueKind::New,
            remember: Duration::from_secs(3_600),
        }
    }

    /// Adds tasks.
    pub async fn add(&mut self, tasks: impl IntoIterator<Item = NewTask>) {
        let call = Arc::new(self.call(tasks.into_iter().collect()));
        let added = self.broker.enqueue(call).await;
        added.expect("enqueueing is accepted");
    }

    /// Adds tasks of normal priority, ready at once.
    pub async fn add_numbers(&mut self, numbers: impl IntoIterator<Item = u128>) {
        self.add(numbers.into_iter().map(task)).await;
    }

    /// Opens a consumer of a process of its own, `worker`.
    pub async fn consumer(&self, worker: &str) -> Consumer {
        let consumer = self.unopened(worker);
        let opened = consumer.broker.open(&consumer.incarnation).await;
        opened.expect("opening is accepted");
        consumer
    }

    /// Makes a consumer that the broker was not told of.
    pub fn unopened(&self, worker: &str) -> Consumer {
        let incarnation = Incarnation {
            id: IncarnationId::random(),
            queue: self.queue.clone(),
            worker: WorkerId::new(worker).expect("it is a name"),
            lane: 0,
            lease: self.harness.lease(),
        };
        Consumer::new(Arc::clone(&self.broker), incarnation)
    }

    /// Returns the queue as text: `ready [1 2#1] scheduled [] retrying [] active [3] dead [4:poison]`.
    ///
    /// Ready ones in their order; `#n` after n rescues.
    pub async fn text(&self) -> String {
        let mut text = String::new();
        for state in [
            TaskState::Ready,
            TaskState::Scheduled,
            TaskState::Retrying,
            TaskState::Active,
        ] {
            let mut labels: Vec<String> = self.scan(state).await;
            if state == TaskState::Active {
                labels.sort();
            }
            text.push_str(&format!("{state} [{}] ", labels.join(" ")));
        }
        let dead = self.broker.take_dead(MAX_BATCH).await.expect("reading");
        let dead = dead
            .iter()
            .map(|dead| format!("{}:{}", label(&dead.frame), dead.reason));
        let dead: Vec<String> = dead.collect();
        text + &format!("dead [{}]", dead.join(" "))
    }

    async fn scan(&self, state: TaskState) -> Vec<String> {
        let request = ScanRequest {
            queue: self.queue.clone(),
            state,
            after: None,
            limit: MAX_BATCH,
        };
        let page = self.broker.scan(&request).await.expect("scanning");
        page.tasks.iter().map(|task| label(&task.frame)).collect()
    }

    /// Compares the whole queue with `expected`.
    ///
    /// # Panics
    /// When they differ.
    pub async fn expect(&self, which: &str, expected: &str) {
        rule(which, self.text().await, expected.to_owned());
    }

    /// Returns the queue's status.
    pub async fn status(&self) -> QueueStatus {
        let queues = self.broker.queues().await.expect("reading");
        let mine = queues.into_iter().find(|status| status.queue == self.queue);
        mine.expect("the broker has heard of the queue")
    }

    /// Returns the queue's counters, having checked that they add up (PROTOCOL 10).
    pub async fn counters(&self) -> Counters {
        let status = self.status().await;
        rule(
            "PROTOCOL 10: enqueued + revived = ended + held",
            status.counters.outstanding(),
            i128::from(status.held()),
        );
        status.counters
    }

    /// Sweeps once, without a limit that matters.
    pub async fn sweep(&self) -> Swept {
        let swept = self.broker.sweep(&self.queue, MAX_BATCH).await;
        swept.expect("sweeping")
    }

    /// Lets one lease and one sweep interval pass, sweeping and renewing `alive` every quarter of a lease, as a
    /// watchdog does. Returns what the sweeps did together.
    pub async fn outlive_lease(&self, alive: &[IncarnationId]) -> Swept {
        let mut all = self.sweep().await;
        all.held_back = false;
        for _ in 0..5 {
            self.harness.pass(self.harness.lease() / 4).await;
            let gone = self.broker.renew(&self.queue, alive).await;
            rule(
                "PROTOCOL 2: a consumer that renews is not gone",
                gone.expect("renewing"),
                vec![],
            );
            let swept = self.sweep().await;
            all.closed.extend(swept.closed);
            all.rescued += swept.rescued;
            all.buried += swept.buried;
            all.held_back |= swept.held_back;
            all.more = swept.more;
        }
        rule(
            "PROTOCOL 3: sweeps in time are never held back",
            all.held_back,
            false,
        );
        all
    }

    /// Takes the wake tokens that are there, after a silence in which more may come.
    pub async fn heard(&self) -> Vec<Wake> {
        let queues = [self.queue.clone()];
        let heard = self.broker.wait(&queues, self.harness.silence()).await;
        heard.expect("waiting")
    }

    /// Waits for `wake` for at most half a minute; others are let pass.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn expect_wake(&self, which: &str, wake: Wake) {
        let queues = [self.queue.clone()];
        for _ in 0..15 {
            let heard = self.broker.wait(&queues, Duration::from_secs(2)).await;
            let heard = heard.expect("waiting");
            if heard.contains(&wake) {
                return;
            }
        }
        let text = self.text().await;
        panic!("{which}\n  expected: {wake:?} within half a minute\n     found: silence at {text}");
    }
}
