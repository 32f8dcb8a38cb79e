//! `celeriac task revoke`: has tasks not run: one by its id, or all of a kind or with a header that are there by now.

use celeriac_actors::ids::{TaskId, TaskName};
use celeriac_actors::mode::Mode;
use celeriac_actors::ports::StoredTask;
use celeriac_actors::revocation::{Revocation, Selector};
use celeriac_actors::state::TaskState;
use celeriac_actors::time::{Clock, Timestamp};
use clap::Args;
use serde_json::json;

use super::super::exit::{Exit, Failure};
use super::super::session::{Session, operator};
use super::super::{Global, demo_tasks, output};
use crate::admin::enqueue::asks::pair;
use crate::admin::enqueue::known_queue;
use crate::admin::revoke::{Place, Revoking, Written};
use crate::admin::task_view::read_id;
use crate::admin::with_commands;
use crate::app::App;
use crate::clock::SystemClock;
use crate::look::Patience;
use crate::look::hunt::Hunt;
use crate::look::search::open;
use crate::suggest::did_you_mean;

/// Revokes tasks.
#[derive(Args, Debug)]
pub(crate) struct RevokeArgs {
    /// The task's id.
    #[arg(value_name = "ID", required_unless_present_any = ["task", "header"])]
    id: Option<String>,
    /// All tasks of this kind that were enqueued until now.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["id", "header"])]
    task: Option<String>,
    /// All tasks with this header that were enqueued until now.
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "id")]
    header: Option<String>,
    /// Only in this queue; in all of them by default.
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// End attempts that run, instead of asking them to stop.
    #[arg(long)]
    terminate: bool,
}

impl RevokeArgs {
    /// Reads which tasks are meant.
    fn selector(&self, now: Timestamp) -> Result<Selector, String> {
        match (&self.id, &self.task, &self.header) {
            (Some(id), ..) => read_id(id).map(Selector::Id),
            (None, Some(name), _) => {
                let name = TaskName::new(name).map_err(|error| error.to_string())?;
                Ok(Selector::Task { name, until: now })
            }
            (None, None, Some(text)) => {
                let (key, value) = pair(text)?;
                let until = now;
                Ok(Selector::Header { key, value, until })
            }
            (None, None, None) => Err("name a task by its id, or with --task or --header".into()),
        }
    }
}

pub(super) fn run(args: &RevokeArgs, global: &Global, app: &App) -> Result<Exit, Failure> {
    let now = SystemClock.now();
    let of = args.selector(now).map_err(Failure::usage)?;
    let session = Session::open(global, app, &[])?;
    if let Some(queue) = &args.queue {
        known_queue(&session.config, queue).map_err(Failure::usage)?;
    }
    let broker = session.existing_broker()?;
    let revoked = async {
        let store = session.store();
        let store = store.as_ref().map_err(ToString::to_string);
        let keeper = session.keeper();
        let hunt = Hunt {
            // Of no matter where a rule is revoked.
            id: match &of {
                Selector::Id(id) => *id,
                _ => TaskId::from_bytes([0; 16]),
            },
            broker: &*broker,
            store: match &store {
                Ok(store) => Ok(*store),
                Err(why) => Err(why.clone()),
            },
            kept_at: keeper.server(),
            limits: session.limits(),
            patience: Patience::ONE_SHOT,
        };
        let revoking = Revoking {
            hunt,
            store,
            revocation: Revocation {
                of: of.clone(),
                terminate: args.terminate,
            },
            queue: args.queue.as_deref(),
            now,
            actor: operator(),
        };
        let work = Work {
            session: &session,
            app,
            revoking,
        };
        work.run().await
    };
    Session::block_on(revoked)?
}

/// One run of the command.
struct Work<'a> {
    session: &'a Session,
    app: &'a App,
    revoking: Revoking<'a>,
}

impl Work<'_> {
    async fn run(&self) -> Result<Exit, Failure> {
        match &self.revoking.revocation.of {
            Selector::Id(id) => self.one(*id).await,
            rule => self.all(rule).await,
        }
    }

    /// Revokes one task, wherever it is.
    async fn one(&self, id: TaskId) -> Result<Exit, Failure> {
        let (found, place, written) = self.revoking.one().await?;
        if let Some(why) = &found.store_unread {
            output::complain(&format!("celeriac: the store was not asked: {why}"));
        }
        let (looked, total) = (found.looked, found.total);
        if self.session.json {
            let document = self.revoking.document_of(id, (&found, &place, &written));
            output::json(&document);
        } else if !place.is_a_miss(found.is_complete) {
            let task = found.stored.as_ref().map(|(_, task)| task);
            let until = written.forget_at;
            output::line(&self.tell(id, &place, (task, until)));
        }
        if place.is_unknown() && !found.is_complete {
            self.warn_unseen(&written, looked, total);
            return Ok(Exit::Ok);
        }
        if !place.is_unknown() && !matches!(place, Place::Ended(_)) {
            return Ok(Exit::Ok);
        }
        if matches!(place, Place::Ended(TaskState::Cancelled)) {
            return Ok(Exit::Ok);
        }
        let until = written.forget_at;
        Err(Failure::usage(match place {
            Place::Ended(state) => format!("task {id} has ended already ({state})"),
            _ => format!(
                "task {id} was not found; searched {looked} of {total} tasks. Should it come until {until}, it will not \
                 run: so long is its revocation kept"
            ),
        }))
    }

    /// Revokes all that a rule means.
    async fn all(&self, rule: &Selector) -> Result<Exit, Failure> {
        let (census, written) = self.revoking.all(rule).await?;
        let (looked, total) = (census.looked, census.total);
        if self.session.json {
            let mut document = self.revoking.document(&written, (looked, total));
            document["rule"] = json!(rule.to_string());
            document["found"] = census.document();
            output::json(&document);
        } else {
            let what = match rule {
                Selector::Header { key, value, .. } => format!("tasks with header {key}={value}"),
                Selector::Task { name, .. } => format!("tasks `{name}`"),
                Selector::Id(id) => id.to_string(),
            };
            output::line(&format!(
                "revoked {} that were enqueued until {}: {census}; {}",
                output::plain(&what),
                self.revoking.now,
                self.revoking.how()
            ));
        }
        if let Selector::Task { name, .. } = rule
            && census.is_empty()
            && !self.session.json
        {
            self.warn_unknown(name);
        }
        if !census.is_complete {
            self.warn_unseen(&written, looked, total);
        }
        Ok(Exit::Ok)
    }

    fn tell(
        &self,
        id: TaskId,
        place: &Place,
        (task, until): (Option<&StoredTask>, Timestamp),
    ) -> String {
        match place {
            Place::Running(worker) => {
                let how = if self.revoking.revocation.terminate {
                    ending(task.and_then(|task| self.grip(task)))
                } else {
                    "is asked to stop"
                };
                format!("task {id} runs on {worker}, and {how}")
            }
            Place::Waiting(state, None) => format!("task {id} is {state}, and will not start"),
            Place::Waiting(state, Some(due)) => {
                format!("task {id} is {state} for {due}, and will not start")
            }
            Place::Ended(TaskState::Cancelled) => {
                format!("task {id} was cancelled before: nothing is left to stop")
            }
            Place::Ended(state) => format!("task {id} has ended already ({state})"),
            Place::Unknown => {
                format!(
                    "task {id} is unknown here; its revocation is kept until {until}, in case it comes"
                )
            }
        }
    }

    /// Returns what holds the code of a task that runs, where that is known here.
    fn grip(&self, task: &StoredTask) -> Option<Grip> {
        let job = open(task.frame.clone(), &self.session.limits()).ok()?;
        let name = &job.envelope.task;
        let config = &self.session.config;
        if config.commands.iter().any(|command| command.name == *name) {
            return Some(Grip::Process);
        }
        let registry = self.app.registry();
        let said = job.envelope.overrides.mode;
        let said = said.or_else(|| config.tasks.get(name)?.mode);
        let mode = said.or_else(|| registry.mode_of(name));
        match mode {
            Some(Mode::Isolated) => Some(Grip::Process),
            Some(Mode::Blocking) => Some(Grip::Thread),
            Some(Mode::Inline) => Some(Grip::Future),
            None => {
                registry.policy_of(name)?;
                let is_async = registry.check_mode(name, Mode::Inline, true).is_ok();
                Some(if is_async { Grip::Future } else { Grip::Thread })
            }
        }
    }

    /// Warns of a kind that nobody knows: it is probably mistyped.
    fn warn_unknown(&self, name: &TaskName) {
        let all = with_commands(demo_tasks::add(App::new()), &self.session.config);
        let own = self.app.registry().names().map(TaskName::as_str);
        let mut known: Vec<&str> = all.registry().names().map(TaskName::as_str).collect();
        known.extend(own);
        if known.contains(&name.as_str()) {
            return;
        }
        let hint = did_you_mean(name.as_str(), known);
        let hint = hint.map_or_else(String::new, |hint| format!("; {hint}"));
        output::complain(&format!(
            "celeriac: no task `{name}` is stored, and this program knows none of that name{hint}"
        ));
    }

    /// Says what the search may have missed, and until when that will not run.
    fn warn_unseen(&self, written: &Written, looked: u64, total: u64) {
        let until = written.forget_at;
        if self.session.json {
            let warning =
                json!({ "searched": looked, "of": total, "forgotten_at": until.to_string() });
            output::complain(&warning.to_string());
        } else {
            output::complain(&format!(
                "celeriac: searched {looked} of {total} tasks; what is among the rest and due until {until} will not run, what is \
                 due later would: revoke it again until then"
            ));
        }
    }
}

/// What holds the code of an attempt that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grip {
    Process,
    Thread,
    Future,
}

/// Says what becomes of an attempt that is to be ended: what can be ended depends on where its code is.
const fn ending(grip: Option<Grip>) -> &'static str {
    match grip {
        Some(Grip::Process) => "its process is ended",
        Some(Grip::Thread) => {
            "is told to end; nothing can end code on a thread: it is cancelled when its code returns, or at its hard limit"
        }
        Some(Grip::Future) => {
            "is ended where it awaits next; code that does not await cannot be ended"
        }
        None => {
            "is to be ended: a process at once, async code where it awaits next; code on a thread goes on until it returns \
             or its hard limit has passed"
        }
    }
}
