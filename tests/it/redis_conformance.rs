//! The Redis broker passes the suite that every broker passes: alone, with the least rights, on a cluster, over TLS and
//! over a socket.

use std::cell::Cell;
use std::marker::PhantomData;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use celeriac::redis::{RedisBroker, RedisOptions};
use celeriac_actors::ids::{QueueName, TaskId, WorkerId};
use celeriac_actors::ports::{Broker, id_of};
use celeriac_actors::testkit::conformance::{ClockStep, Harness};
use tokio::time::Instant;

use crate::redis_resp::Reply;
use crate::redis_server::RedisServer;
use crate::redis_shared::{cluster, namespace, server, with};

/// Where a broker of the suite is.
pub(crate) trait Place: Send + Sync + 'static {
    /// How many random histories the model plays.
    const HISTORIES: u32 = 5;

    fn url() -> String;

    /// Where results are kept, if not with the tasks.
    fn results() -> Option<String> {
        None
    }

    /// Returns the server of a key.
    fn node(_key: &str) -> &'static RedisServer {
        server()
    }
}

struct Plain;

impl Place for Plain {
    const HISTORIES: u32 = 20;

    fn url() -> String {
        server().url()
    }
}

/// As a user who may do nothing but what a broker must.
struct Least;

impl Place for Least {
    fn url() -> String {
        server().url_as("worker", "secret")
    }
}

struct Cluster;

impl Place for Cluster {
    fn url() -> String {
        cluster().url()
    }

    fn node(key: &str) -> &'static RedisServer {
        cluster().node_of(key)
    }
}

struct Tls;

impl Place for Tls {
    fn url() -> String {
        let authority = server().authority();
        with(&server().tls_url(), "ca", authority.to_str().unwrap())
    }
}

struct Socket;

impl Place for Socket {
    fn url() -> String {
        server().unix_url()
    }
}

/// With results in another database.
struct ResultsElsewhere;

impl Place for ResultsElsewhere {
    const HISTORIES: u32 = 20;

    fn url() -> String {
        server().url()
    }

    fn results() -> Option<String> {
        Some(format!("{}/1", server().url()))
    }
}

/// A namespace without data, and a broker in it.
struct Bench<P> {
    broker: Arc<dyn Broker>,
    namespace: String,
    delay: Delay,
    place: PhantomData<P>,
}

/// The lease of the cases, in real time.
const LEASE: Duration = Duration::from_secs(1);

/// How much more time has passed than was asked for.
struct Delay {
    began: Instant,
    asked: Mutex<Duration>,
}

impl Delay {
    /// What the cases bear.
    const BEARABLE: Duration = LEASE.checked_div(5).unwrap();
}

thread_local! {
    static WAS_LATE: Cell<bool> = const { Cell::new(false) };
}

impl Drop for Delay {
    fn drop(&mut self) {
        let asked = *self.asked.lock().unwrap();
        WAS_LATE.set(self.began.elapsed() > asked + Self::BEARABLE);
    }
}

impl<P: Place> Bench<P> {
    fn open(namespace: &str) -> Arc<dyn Broker> {
        let options = RedisOptions::new(&with(&P::url(), "namespace", namespace)).unwrap();
        // A worker, or it could not judge who is dead.
        let mut options = options.worker("judge".parse().unwrap());
        options.results =
            P::results().map(|url| with(&url, "namespace", namespace).parse().unwrap());
        Arc::new(RedisBroker::open(options).unwrap())
    }

    fn ask(&self, command: &str, key: &str, words: &[&[u8]]) -> Reply {
        let all = [&[command.as_bytes(), key.as_bytes()], words].concat();
        P::node(key).ask(&all)
    }

    /// Returns what the keys of every queue begin with.
    fn roots(&self) -> Vec<String> {
        let registry = format!("{}:{{celeriac}}:queues", self.namespace);
        let queues = self.ask("SMEMBERS", &registry, &[]);
        let root = |queue: &Reply| format!("{}:{{{}}}:", self.namespace, queue.text());
        queues.parts().iter().map(root).collect()
    }
}

#[async_trait]
impl<P: Place> Harness for Bench<P> {
    async fn fresh() -> Self {
        let namespace = namespace("acl");
        Self {
            broker: Self::open(&namespace),
            namespace,
            delay: Delay {
                began: Instant::now(),
                asked: Mutex::default(),
            },
            place: PhantomData,
        }
    }

    fn broker(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.broker)
    }

    async fn another(&self) -> Arc<dyn Broker> {
        Self::open(&self.namespace)
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
        *self.delay.asked.lock().unwrap() += time;
    }

    fn was_late() -> bool {
        WAS_LATE.get()
    }

    fn lease(&self) -> Duration {
        LEASE
    }

    fn silence(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn time_is_free(&self) -> bool {
        false
    }

    fn histories(&self) -> u32 {
        P::HISTORIES
    }

    async fn step_clock(&self, _: ClockStep) -> bool {
        false
    }

    async fn declare_dead(&self, worker: &WorkerId) -> bool {
        let mut declared = false;
        for root in self.roots() {
            let lives = format!("{root}lives");
            let all = self.ask("HGETALL", &lives, &[]);
            for pair in all.parts().chunks(2) {
                let life = pair[1].text();
                let mut words: Vec<&str> = life.split(' ').collect();
                if words[3] == worker.as_str() {
                    words[2] = dead_proof();
                    let field = pair[0].text();
                    let words = words.join(" ");
                    self.ask("HSET", &lives, &[field.as_bytes(), words.as_bytes()]);
                    declared = true;
                }
            }
        }
        declared
    }

    async fn corrupt(&self, queue: &QueueName, task: TaskId, bytes: &[u8]) -> bool {
        let root = format!("{}:{{{queue}}}:", self.namespace);
        let is_it =
            |frame: &Reply| matches!(frame, Reply::Bytes(frame) if id_of(frame) == Some(task));
        for level in 0..10 {
            let list = format!("{root}r{level}");
            let frames = self.ask("LRANGE", &list, &[b"0", b"-1"]);
            if let Some(place) = frames.parts().iter().position(is_it) {
                self.ask("LSET", &list, &[place.to_string().as_bytes(), bytes]);
                return true;
            }
        }
        let lives = self.ask("HKEYS", &format!("{root}lives"), &[]);
        for incarnation in lives.parts() {
            let flight = format!("{root}f:{}", incarnation.text());
            let held = self.ask("HGETALL", &flight, &[]);
            if let Some(pair) = held.parts().chunks(2).find(|pair| is_it(&pair[1])) {
                self.ask("HSET", &flight, &[pair[0].text().as_bytes(), bytes]);
                return true;
            }
        }
        false
    }
}

/// Returns the proof of a process of this machine that was killed.
fn dead_proof() -> &'static str {
    static PROOF: OnceLock<String> = OnceLock::new();
    PROOF.get_or_init(|| {
        let read = |path: &str| std::fs::read_to_string(path).unwrap();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        let stat = read(&format!("/proc/{pid}/stat"));
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let started = fields.split_whitespace().nth(19).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let boot = read("/proc/sys/kernel/random/boot_id");
        let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap();
        let namespace = namespace.to_str().unwrap();
        let namespace = namespace.trim_start_matches("pid:[").trim_end_matches(']');
        format!("{}:{namespace}:{pid}:{started}", boot.trim())
    })
}

mod plain {
    use super::{Bench, Plain};

    celeriac_actors::conformance_tests!(Bench<Plain>);
}

mod least_rights {
    use super::{Bench, Least};

    celeriac_actors::conformance_tests!(Bench<Least>);
}

mod cluster {
    use super::{Bench, Cluster};

    celeriac_actors::conformance_tests!(Bench<Cluster>);
}

/// What is sent is the same as to a plain server: here it is how it gets there that counts.
macro_rules! way_tests {
    ($place:ty) => {
        celeriac_actors::conformance_tests! { @modules $place;
            order {
                many_consumers_never_hold_a_task_twice
                nine_comes_before_zero_and_the_first_first
                two_handles_see_one_queue
            }
            calls {
                a_repeat_gives_the_same_reply
                a_closed_identity_stays_closed
            }
            settle {
                every_outcome_has_its_state_and_its_counter
                a_result_comes_with_the_step_that_ends_the_task
            }
            enqueue {
                a_repeated_call_adds_nothing
                a_batch_has_at_most_five_hundred_tasks
            }
            dead {
                the_dead_stay_until_they_are_dropped
            }
            wake {
                enqueueing_wakes_one_who_waits
                an_earlier_due_time_rings
                a_revocation_rings_for_all_who_wait
            }
            inspect {
                workers_beat_and_say_farewell
            }
            keep {
                one_can_wait_for_results
            }
        }
    };
}

mod tls {
    use super::{Bench, Tls};

    celeriac_actors::conformance_tests!(Bench<Tls>);
}

mod socket {
    use super::{Bench, Socket};

    way_tests!(Bench<Socket>);
}

mod results_elsewhere {
    use super::{Bench, ResultsElsewhere};

    celeriac_actors::conformance_tests! { @modules Bench<ResultsElsewhere>;
        calls {
            a_repeat_gives_the_same_reply
        }
        settle {
            every_outcome_has_its_state_and_its_counter
            a_result_comes_with_the_step_that_ends_the_task
        }
        suspects {
            whoever_waits_learns_of_a_burial_by_rescue
        }
        keep {
            results_end_and_are_seen_from_everywhere
            one_can_wait_for_results
            housekeeping_forgets_what_is_over
        }
        model {
            random_histories_keep_the_promises
        }
    }
}
