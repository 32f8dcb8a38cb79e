//! The memory broker passes the suite that every broker passes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_actors::ids::{QueueName, TaskId, WorkerId};
use celeriac_actors::ports::Broker;
use celeriac_actors::testkit::conformance::{ClockStep, Harness};
use celeriac_actors::testkit::{ManualClock, MemoryBroker};

struct Memory {
    clock: Arc<ManualClock>,
    broker: Arc<MemoryBroker>,
}

#[async_trait]
impl Harness for Memory {
    async fn fresh() -> Self {
        let clock = Arc::new(ManualClock::new());
        let broker = Arc::new(MemoryBroker::new(clock.clone()));
        Self { clock, broker }
    }

    fn broker(&self) -> Arc<dyn Broker> {
        self.broker.clone()
    }

    async fn another(&self) -> Arc<dyn Broker> {
        Arc::new(self.broker.another())
    }

    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(12)
    }

    fn silence(&self) -> Duration {
        Duration::ZERO
    }

    fn time_is_free(&self) -> bool {
        true
    }

    async fn step_clock(&self, step: ClockStep) -> bool {
        match step {
            ClockStep::WallForward(by) => self.clock.step_wall_forward(by),
            ClockStep::WallBack(by) => self.clock.step_wall_back(by),
            ClockStep::Reboot => self.clock.reboot(Duration::from_secs(30)),
        }
        true
    }

    async fn declare_dead(&self, worker: &WorkerId) -> bool {
        self.broker.declare_dead(worker);
        true
    }

    async fn corrupt(&self, queue: &QueueName, task: TaskId, bytes: &[u8]) -> bool {
        self.broker.corrupt(queue, task, bytes)
    }
}

celeriac_actors::conformance_tests!(Memory);
