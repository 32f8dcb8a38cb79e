//! What a producer says of tasks that the broker did not take, and what it hands to a spool.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::*;
use crate::ports::{EnqueueCall, EnqueueKind, Sent, SpoolError};
use crate::testkit::{Fault, ManualClock, MemoryBroker, Method};

/// A spool in memory: remembers what it was given.
#[derive(Debug, Default)]
struct Notebook {
    calls: Mutex<Vec<(Arc<EnqueueCall>, Sent)>>,
    refuses: Mutex<Option<SpoolError>>,
}

impl Notebook {
    fn calls(&self) -> Vec<(Arc<EnqueueCall>, Sent)> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.clone()
    }
}

#[async_trait]
impl Spool for Notebook {
    fn holds(&self, queue: &QueueName) -> Result<bool, SpoolError> {
        Ok(self.calls().iter().any(|(call, _)| call.queue == *queue))
    }

    async fn put(&self, call: Arc<EnqueueCall>, sent: Sent) -> Result<(), SpoolError> {
        if let Some(error) = self.refuses.lock().unwrap().clone() {
            return Err(error);
        }
        self.calls.lock().unwrap().push((call, sent));
        Ok(())
    }

    async fn drain(&self, _: Duration) -> Result<u64, SpoolError> {
        Ok(self.calls().len() as u64)
    }
}

struct Stage {
    broker: Arc<MemoryBroker>,
    spool: Arc<Notebook>,
    producer: Producer,
}

fn stage(with_spool: bool) -> Stage {
    let clock = Arc::new(ManualClock::new());
    let broker = Arc::new(MemoryBroker::new(clock.clone()));
    let spool = Arc::new(Notebook::default());
    let options = ProducerOptions {
        timeout: Duration::from_secs(3),
        spool: with_spool.then(|| spool.clone() as Arc<dyn Spool>),
        ..ProducerOptions::default()
    };
    Stage {
        producer: Producer::new(broker.clone(), clock, options),
        broker,
        spool,
    }
}

impl Stage {
    fn prepared(&self, queue: &str, when: When) -> Prepared {
        let options = EnqueueOptions {
            queue: Some(QueueName::new(queue).unwrap()),
            when: Some(when),
            ..EnqueueOptions::default()
        };
        let name = TaskName::new("t").unwrap();
        let prepared = self
            .producer
            .prepare_encoded(&name, "default", &[0xc0], options);
        prepared.unwrap()
    }

    async fn add(&self, queue: &str) -> Result<Added, EnqueueError> {
        self.producer
            .add(vec![self.prepared(queue, When::Now)])
            .await
    }

    fn enqueued(&self, queue: &str) -> usize {
        let line = self.broker.snapshot(&QueueName::new(queue).unwrap());
        let ready = line.split(['[', ']']).nth(1).unwrap_or_default();
        ready.split_whitespace().count()
    }
}

fn spooled(count: usize) -> Added {
    Added {
        accepted: 0,
        spooled: count,
    }
}

const METHOD: Method = Method::Enqueue;

#[tokio::test(start_paused = true)]
async fn an_error_says_whether_the_task_may_be_there() {
    let lost = Fault::LostReply {
        method: METHOD,
        times: 99,
    };
    for (fault, may_be, there, said) in [
        (Fault::Away, false, 0, "nothing else was"),
        (Fault::Full, false, 0, "refuses"),
        (Fault::ReadOnly, false, 0, "refuses"),
        (lost, true, 1, "1 more may have been"),
    ] {
        let stage = stage(false);
        stage.broker.plan(fault);
        let error = stage.add("q").await.unwrap_err();
        assert_eq!(error.may_have_been_accepted(), may_be, "{fault:?}");
        assert_eq!((error.accepted(), error.unknown()), (0, there));
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(stage.enqueued("q"), there, "{fault:?}");
        stage.broker.heal();
        // The same call again is certain to be there once.
        if let Some(call) = error.call() {
            stage.producer.repeat(call).await.unwrap();
            assert_eq!(stage.enqueued("q"), 1);
        }
        // And what follows is not disturbed by it.
        assert_eq!(stage.add("q").await.unwrap().accepted, 1);
        assert_eq!(stage.enqueued("q"), 1 + there);
    }
}

/// Goal: one try that may have been carried out is not undone by later ones that certainly were not.
#[tokio::test(start_paused = true)]
async fn what_was_open_once_stays_open() {
    for then in [Fault::Away, Fault::Full] {
        let stage = stage(false);
        stage.broker.plan(Fault::LostReply {
            method: METHOD,
            times: 1,
        });
        let add = stage.add("q");
        let fail = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            stage.broker.plan(then);
        };
        let (added, ()) = futures_util::future::join(add, fail).await;
        assert!(added.unwrap_err().may_have_been_accepted(), "{then:?}");
        assert_eq!(stage.enqueued("q"), 1);
    }
}

/// Goal: a server that went back in time does not cost a producer its next call.
/// Method: another handle moves the channel on, so that the producer's next number does not follow.
#[tokio::test(start_paused = true)]
async fn a_channel_that_the_broker_knows_otherwise_is_left() {
    let stage = stage(false);
    stage.add("q").await.unwrap();
    let channel = stage.producer.inner.channels.any(&"q".parse().unwrap());
    let ahead = |number| EnqueueCall {
        queue: "q".parse().unwrap(),
        channel,
        number,
        tasks: vec![stage.prepared("q", When::Now).task],
        kind: EnqueueKind::New,
        remember: Duration::from_secs(60),
    };
    for number in [2, 3] {
        stage.broker.enqueue(Arc::new(ahead(number))).await.unwrap();
    }
    assert_eq!(stage.add("q").await.unwrap().accepted, 1);
    assert_eq!(stage.enqueued("q"), 4);
}

#[tokio::test(start_paused = true)]
async fn what_the_broker_does_not_take_goes_to_the_spool() {
    let unanswered = Fault::Unanswered {
        method: METHOD,
        times: 1,
    };
    for (fault, sent) in [
        (Fault::Away, Sent::Never),
        (Fault::Full, Sent::Never),
        (unanswered, Sent::Perhaps),
    ] {
        let stage = stage(true);
        stage.add("q").await.unwrap();
        stage.broker.plan(fault);
        assert_eq!(stage.add("q").await.unwrap(), spooled(1), "{fault:?}");
        let (call, how) = stage.spool.calls().remove(0);
        assert_eq!(how, sent, "{fault:?}");
        assert_eq!(call.number, 2, "the number it had");
        assert!(
            call.remember >= Duration::from_secs(7 * 86_400),
            "longer than outages"
        );
        stage.broker.heal();
        // Order within the queue; others are not held up.
        let calls = stage.broker.calls();
        assert_eq!(stage.add("q").await.unwrap(), spooled(1), "behind it");
        assert_eq!(stage.broker.calls(), calls, "the broker is not asked");
        assert_eq!(stage.add("other").await.unwrap().accepted, 1);
        // The call that may have been carried out can be relayed to the letter, once it is.
        if sent == Sent::Perhaps {
            stage.producer.repeat(&call).await.unwrap();
            stage.producer.repeat(&call).await.unwrap();
            assert_eq!(stage.enqueued("q"), 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_countdown_counts_from_the_enqueue() {
    let stage = stage(true);
    let delay = Duration::from_secs(60);
    let now = stage.producer.inner.clock.now();
    let add = async |fault| {
        stage.broker.plan(fault);
        let tasks = vec![stage.prepared("q", When::After(delay))];
        stage.producer.add(tasks).await.unwrap();
        stage.broker.heal();
        let (call, _) = stage.spool.calls.lock().unwrap().pop().unwrap();
        call.tasks[0].when
    };
    assert_eq!(add(Fault::Away).await, When::At(now.plus(delay)));
    let lost = Fault::LostReply {
        method: METHOD,
        times: 1,
    };
    assert_eq!(add(lost).await, When::After(delay), "to the letter");
}

#[tokio::test(start_paused = true)]
async fn a_spool_that_takes_nothing_is_an_error_that_says_so() {
    let text = || "17".to_owned();
    for (refusal, fault, may_be) in [
        (SpoolError::Full(text()), Fault::Away, false),
        (SpoolError::Failed(text()), Fault::Away, false),
        (SpoolError::Unknown(text()), Fault::Away, true),
        (
            SpoolError::Full(text()),
            Fault::LostReply {
                method: METHOD,
                times: 1,
            },
            true,
        ),
    ] {
        let stage = stage(true);
        *stage.spool.refuses.lock().unwrap() = Some(refusal.clone());
        stage.broker.plan(fault);
        let error = stage.add("q").await.unwrap_err();
        assert_eq!(error.may_have_been_accepted(), may_be, "{refusal:?}");
        assert!(error.to_string().contains("planned"), "{error}");
        assert!(error.to_string().contains("the spool"), "{error}");
    }
}
