//! Orders: what somebody wants to have enqueued, checked against what is known here, and made into frames.

use std::collections::HashMap;

use celeriac_actors::asked;
use celeriac_actors::frame::FrameError;
use celeriac_actors::header::Priority;
use celeriac_actors::ids::{QueueName, TaskId, TaskName};
use celeriac_actors::ports::When;
use celeriac_actors::producer::{EnqueueError, EnqueueOptions, Prepared, Producer};
use celeriac_actors::registry::Registry;
use celeriac_actors::time::Clock;
use serde_json::{Value, json};

use super::super::text::{brief, plain};
use super::super::values;
use super::asks::Asks;
use super::blame::blame;
use crate::clock::SystemClock;
use crate::config::Config;

/// The most names of tasks that are remembered.
const MAX_KINDS: usize = 10_000;

/// The queue of tasks that nothing else is known of.
const DEFAULT_QUEUE: &str = "default";

/// One task that somebody wants to have enqueued.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Order {
    /// Its name.
    pub(crate) task: String,
    /// Its arguments; `None` when nothing was said.
    pub(crate) args: Option<Value>,
    /// Its queue; `None` leaves it to the routes.
    pub(crate) queue: Option<String>,
    /// Its id; `None` makes one.
    pub(crate) id: Option<TaskId>,
    /// When it becomes ready.
    pub(crate) when: Option<When>,
    /// How urgent it is.
    pub(crate) priority: Priority,
    /// What else is asked for it.
    pub(crate) asks: Asks,
}

/// A task that is ready to be sent.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) prepared: Prepared,
    pub(crate) task: TaskName,
    /// About how much memory it takes.
    pub(crate) bytes: usize,
}

/// What is known of a kind of task.
#[derive(Clone, Debug)]
struct Kind<'a> {
    name: TaskName,
    queue: &'a str,
}

/// Where orders are checked and packed.
pub(crate) struct Desk<'a> {
    pub(crate) config: &'a Config,
    pub(crate) registry: &'a Registry,
    pub(crate) producer: &'a Producer,
    /// Whether somebody will wait for the ends of the tasks.
    pub(crate) waited_for: bool,
    /// Whether tasks that are not known here are refused.
    pub(crate) strict: bool,
    kinds: HashMap<String, Kind<'a>>,
}

impl<'a> Desk<'a> {
    pub(crate) fn new(
        config: &'a Config,
        registry: &'a Registry,
        producer: &'a Producer,
        waited_for: bool,
    ) -> Self {
        Self {
            config,
            registry,
            producer,
            waited_for,
            strict: false,
            kinds: HashMap::new(),
        }
    }

    /// Returns whether this program knows the kind.
    pub(crate) fn knows(&self, task: &str) -> bool {
        TaskName::new(task).is_ok_and(|name| self.registry.queue_of(&name).is_some())
    }

    /// Checks an order and makes its frame.
    ///
    /// # Errors
    /// What is wrong with it, for people, on one line.
    pub(crate) fn pack(&mut self, order: Order) -> Result<Parcel, String> {
        let kind = self.kind(&order.task)?;
        let queue = match &order.queue {
            Some(name) => Some(self.queue(name)?),
            None => None,
        };
        let args = self.args(&kind.name, order.args)?;
        let mut options = EnqueueOptions {
            queue,
            id: order.id,
            when: order.when,
            priority: order.priority,
            want_outcome: self.waited_for,
            sensitive: self.sensitive(&kind.name),
            ..EnqueueOptions::default()
        };
        order.asks.apply(&mut options, SystemClock.now())?;
        if let Some(mode) = options.overrides.mode {
            // Whether the workers have child processes is theirs to say; the daemon of the command line has.
            let can = self.registry.check_mode(&kind.name, mode, true);
            can.map_err(|error| error.to_string())?;
        }
        let policy = self.registry.policy_of(&kind.name);
        asked::check(&options.overrides, &options.headers, policy)
            .map_err(|error| error.to_string())?;
        let prepared = self
            .producer
            .prepare_encoded(&kind.name, kind.queue, &args, options)
            .map_err(reason)?;
        Ok(Parcel {
            prepared,
            task: kind.name,
            bytes: args.len() + 200,
        })
    }

    fn kind(&mut self, name: &str) -> Result<Kind<'a>, String> {
        if let Some(kind) = self.kinds.get(name) {
            return Ok(kind.clone());
        }
        let name = TaskName::new(name).map_err(|error| error.to_string())?;
        let known = self.registry.queue_of(&name);
        if known.is_none() && self.strict {
            let nearest = self.registry.nearest(&name);
            let unknown = EnqueueError::Unknown {
                task: name,
                nearest,
            };
            return Err(format!("{unknown} (--any-task takes it all the same)"));
        }
        let queue = known.unwrap_or(DEFAULT_QUEUE);
        let kind = Kind { name, queue };
        if self.kinds.len() >= MAX_KINDS {
            self.kinds.clear();
        }
        self.kinds.insert(kind.name.to_string(), kind.clone());
        Ok(kind)
    }

    fn sensitive(&self, task: &TaskName) -> Vec<String> {
        let paths = self.registry.sensitive(task).iter();
        paths.map(|path| (*path).to_owned()).collect()
    }

    fn queue(&self, name: &str) -> Result<QueueName, String> {
        known_queue(self.config, name)
    }

    /// Encodes the arguments; of a kind that is known here, such as its task can read.
    fn args(&self, task: &TaskName, args: Option<Value>) -> Result<Vec<u8>, String> {
        let limits = self.producer.limits();
        let encode = |value: &Value| values::encode(value, limits).map_err(said);
        let fits = |value: &Value| -> Result<(), String> {
            let bytes = encode(value)?;
            let checked = self.registry.check(task, &bytes, limits).unwrap_or(Ok(()));
            checked.map_err(said)
        };
        let Some(value) = args else {
            // Nothing said: nothing at all, or an object without fields, whatever the task reads.
            let empty = json!({});
            return match (fits(&Value::Null), fits(&empty)) {
                (Ok(()), _) => encode(&Value::Null),
                (Err(_), Ok(())) => encode(&empty),
                (Err(_), Err(error)) => Err(misfit(task, "", &error)),
            };
        };
        match fits(&value) {
            Ok(()) => encode(&value),
            Err(error) => Err(misfit(task, &blame(&value, &fits), &error)),
        }
    }
}

/// Checks the name of a queue that somebody gave.
///
/// # Errors
/// What is wrong with it, on one line, with a suggestion.
pub(crate) fn known_queue(config: &Config, name: &str) -> Result<QueueName, String> {
    config.known_queue(name, "--queue").map_err(|report| {
        let said = report.mistakes.iter().map(|mistake| match &mistake.hint {
            Some(hint) => format!("{}; {hint}", mistake.found),
            None => format!("{}; there are {}", mistake.found, mistake.allowed),
        });
        said.collect::<Vec<_>>().join("; ")
    })?;
    QueueName::new(name).map_err(|error| error.to_string())
}

/// Says what a decoder does, without the words of the encoding.
fn said(error: FrameError) -> String {
    match error {
        FrameError::Arguments(text) if text.starts_with("wrong msgpack marker") => {
            "a value of another type is expected".to_owned()
        }
        FrameError::Arguments(text) => text,
        error => error.to_string(),
    }
}

fn misfit(task: &TaskName, place: &str, error: &str) -> String {
    let place = match place {
        "" => String::new(),
        place => format!(" at `{}`", brief(place, 100)),
    };
    format!(
        "the arguments are not what `{task}` takes{place}: {}",
        plain(error)
    )
}

fn reason(error: EnqueueError) -> String {
    match error {
        EnqueueError::Frame(error) => error.to_string(),
        EnqueueError::Name(error) => error.to_string(),
        EnqueueError::Asked(error) => error.to_string(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::with_commands;
    use crate::app::App;
    use crate::cli::demo_tasks;
    use crate::config::{Sources, load};
    use celeriac_actors::mode::Mode;
    use celeriac_actors::producer::ProducerOptions;
    use celeriac_actors::testkit::MemoryBroker;
    use std::num::NonZeroUsize;
    use std::sync::Arc;

    fn order(task: &str, args: Option<Value>) -> Order {
        Order {
            task: task.to_owned(),
            args,
            queue: None,
            id: None,
            when: None,
            priority: Priority::NORMAL,
            asks: Asks::default(),
        }
    }

    fn pack(order: Order) -> Result<String, String> {
        pack_at(order, false)
    }

    fn pack_at(order: Order, strict: bool) -> Result<String, String> {
        let sources = Sources::empty(NonZeroUsize::MIN);
        let config = load(&sources).into_result().unwrap();
        let app = demo_tasks::add(App::new());
        let clock = Arc::new(SystemClock);
        let options = ProducerOptions {
            routes: config.routes.clone(),
            ..ProducerOptions::default()
        };
        let broker = Arc::new(MemoryBroker::new(Arc::clone(&clock) as Arc<_>));
        let producer = Producer::new(broker, clock, options);
        let mut desk = Desk::new(&config, app.registry(), &producer, false);
        desk.strict = strict;
        let parcel = desk.pack(order)?;
        Ok(parcel.prepared.handle.queue.to_string())
    }

    #[test]
    fn queues_come_from_order_then_route_then_default() {
        assert_eq!(pack(order("billing.charge", None)).unwrap(), "billing");
        assert_eq!(pack(order("else.charge", None)).unwrap(), "default");
        let mut chosen = order("billing.charge", None);
        chosen.queue = Some("kyb".to_owned());
        assert_eq!(pack(chosen.clone()).unwrap(), "kyb");
        chosen.queue = Some("kyc".to_owned());
        let error = pack(chosen).unwrap_err();
        assert_eq!(error, "there is no queue \"kyc\"; did you mean `kyb`?");
    }

    #[test]
    fn a_command_has_no_mode() {
        let mut sources = Sources::empty(NonZeroUsize::MIN);
        let file = "[[command]]\nname = \"a.b\"\nprogram = \"true\"\n";
        sources.file = Some(("celeriac.toml".into(), file.into()));
        let config = load(&sources).into_result().unwrap();
        let app = with_commands(App::new(), &config);
        let clock = Arc::new(SystemClock);
        let broker = Arc::new(MemoryBroker::new(Arc::clone(&clock) as Arc<_>));
        let producer = Producer::new(broker, clock, ProducerOptions::default());
        let mut desk = Desk::new(&config, app.registry(), &producer, false);
        desk.strict = true;
        assert!(desk.pack(order("a.b", None)).is_ok());
        let mut isolated = order("a.b", None);
        isolated.asks.mode = Some(Mode::Isolated);
        let error = desk.pack(isolated).unwrap_err();
        assert!(error.contains("a process of its own anyway"), "{error}");
    }

    #[test]
    fn a_strict_desk_takes_what_it_knows() {
        assert_eq!(pack_at(order("demo.fail", None), true).unwrap(), "default");
        let error = pack_at(order("demo.fial", None), true).unwrap_err();
        assert!(
            error.starts_with(
                "`demo.fial` is not a task of this program; did you mean `demo.fail`?"
            ),
            "{error}"
        );
    }

    #[test]
    fn arguments_of_known_tasks_are_checked() {
        for (task, args, said) in [
            ("demo.echo", None, "missing field `value`"),
            (
                "demo.sleep",
                Some(json!({ "ms": "x" })),
                "at `ms`: a value of another type",
            ),
            (
                "demo.sleep",
                Some(json!({ "ms": -1 })),
                "at `ms`: invalid value",
            ),
            ("a b", None, "a task name consists of"),
        ] {
            let error = pack(order(task, args)).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        for (task, args) in [
            ("demo.panic", None),
            ("demo.fail", None),
            ("demo.echo", Some(json!({ "value": [1, null] }))),
            ("unknown.here", Some(json!("anything"))),
        ] {
            assert_eq!(pack(order(task, args)).unwrap(), "default");
        }
    }
}
