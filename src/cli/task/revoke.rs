//! `celeriac task revoke`: has tasks not run: one by its id, or all of a kind or with a header that are there by now.

use celeriac_actors::ids::{TaskId, TaskName};
use celeriac_actors::revocation::{Revocation, Selector};
use celeriac_actors::state::TaskState;
use celeriac_actors::time::{Clock, Timestamp};
use clap::Args;
use serde_json::json;

use super::super::exit::{Exit, Failure};
use super::super::session::{Session, operator};
use super::super::{Global, output};
use crate::admin::enqueue::asks::pair;
use crate::admin::enqueue::known_queue;
use crate::admin::patience::Patience;
use crate::admin::revoke::{Place, Revoking, Written};
use crate::admin::task::{Hunt, read_id};
use crate::app::App;
use crate::clock::SystemClock;

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
        let hunt = Hunt {
            // Of no matter where a rule is revoked.
            id: match &of {
                Selector::Id(id) => *id,
                _ => TaskId::from_bytes([0; 16]),
            },
            broker: &*broker,
            store: store.as_ref().map_err(ToString::to_string),
            keeper: session.keeper(),
            limits: session.limits(),
            patience: Patience::ONE_SHOT,
        };
        let terminate = args.terminate;
        let revoking = Revoking {
            hunt,
            revocation: Revocation {
                of: of.clone(),
                terminate,
            },
            queue: args.queue.as_deref(),
            now,
            actor: operator(),
        };
        let json = session.json;
        let work = Work { revoking, json };
        work.run().await
    };
    Session::block_on(revoked)?
}

/// One run of the command.
struct Work<'a> {
    revoking: Revoking<'a>,
    json: bool,
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
        if let Some(why) = &found.unasked {
            output::complain(&format!("celeriac: the store was not asked: {why}"));
        }
        let (looked, total) = (found.looked, found.total);
        if self.json {
            let document = self.revoking.document_of(id, (&found, &place, &written));
            output::json(&document);
        } else {
            output::line(&self.tell(id, &place));
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
                "task {id} was not found; searched {looked} of {total} tasks. Should it come until {until}, it will not run"
            ),
        }))
    }

    /// Revokes all that a rule means.
    async fn all(&self, rule: &Selector) -> Result<Exit, Failure> {
        let (census, written) = self.revoking.all(rule).await?;
        let (looked, total) = (census.looked, census.total);
        if self.json {
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
        if !census.is_complete {
            self.warn_unseen(&written, looked, total);
        }
        Ok(Exit::Ok)
    }

    fn tell(&self, id: TaskId, place: &Place) -> String {
        match place {
            Place::Running(worker) => {
                let how = if self.revoking.revocation.terminate {
                    "is ended"
                } else {
                    "is asked to stop"
                };
                format!("task {id} runs on {worker}, and {how}")
            }
            Place::Waiting(state, None) => format!("task {id} is {state}, and will not start"),
            Place::Waiting(state, Some(due)) => {
                format!("task {id} is {state} for {due}, and will not start")
            }
            Place::Ended(_) | Place::Unknown => format!("task {id} is revoked"),
        }
    }

    /// Says what the search may have missed, and until when that will not run.
    fn warn_unseen(&self, written: &Written, looked: u64, total: u64) {
        let until = written.forget_at;
        if self.json {
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
