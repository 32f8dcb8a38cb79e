//! `celeriac tasks`: the tasks that the broker stores, read from their frames.

use std::ops::ControlFlow;

use celeriac_actors::frame::FrameLimits;
use celeriac_actors::ids::QueueName;
use celeriac_actors::ports::{BrokerError, QueueStatus, StoredTask};
use celeriac_actors::state::TaskState;
use celeriac_actors::time::{Clock, Timestamp};
use clap::Args;
use serde_json::json;

use super::exit::{Exit, Failure};
use super::session::Session;
use super::text::{ago, brief, when};
use super::{Global, output};
use crate::admin::enqueue::known_queue;
use crate::admin::tasks::Row;
use crate::app::App;
use crate::clock::SystemClock;
use crate::look::Patience;
use crate::look::revoked::Revoked;
use crate::look::search::{Search, stored};

/// The states in which tasks are stored, what happens now first.
const STATES: [TaskState; 4] = [
    TaskState::Active,
    TaskState::Retrying,
    TaskState::Ready,
    TaskState::Scheduled,
];

/// Lists stored tasks.
#[derive(Args, Debug)]
pub(crate) struct TasksArgs {
    /// Only those in this state: active, ready, scheduled or retrying.
    #[arg(long, value_name = "STATE", value_parser = ["active", "ready", "scheduled", "retrying"])]
    state: Option<String>,
    /// Only those of this queue.
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// Only those of this kind; `*` and `?` stand for any text and any character.
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    limit: u64,
}

pub(crate) fn run(args: &TasksArgs, global: &Global, app: &App) -> Result<Exit, Failure> {
    let session = Session::open(global, app, &[])?;
    if let Some(queue) = &args.queue {
        known_queue(&session.config, queue).map_err(Failure::usage)?;
    }
    let broker = session.existing_broker()?;
    let listing = Session::block_on(Listing::read(args, &*broker, session.limits()))??;
    if session.json {
        listing
            .rows
            .iter()
            .for_each(|row| output::json(&row.document()));
    } else if listing.rows.is_empty() {
        output::line("no task found");
    } else {
        output::line(&listing.draw(SystemClock.now()));
    }
    if !listing.is_complete {
        let (looked, total) = (listing.looked, listing.total);
        if session.json {
            output::complain(&json!({ "searched": looked, "of": total }).to_string());
        } else {
            output::complain(&format!("celeriac: searched {looked} of {total} tasks"));
        }
    }
    Ok(Exit::Ok)
}

/// What was found.
struct Listing {
    rows: Vec<Row>,
    looked: u64,
    total: u64,
    is_complete: bool,
}

impl Listing {
    async fn read(
        args: &TasksArgs,
        broker: &dyn celeriac_actors::ports::Broker,
        limits: FrameLimits,
    ) -> Result<Self, BrokerError> {
        let queues = Session::insist(|| broker.queues()).await?;
        let is_asked = |queue: &&QueueStatus| match &args.queue {
            Some(name) => queue.queue.as_str() == name,
            None => true,
        };
        let queues: Vec<&QueueStatus> = queues.iter().filter(is_asked).collect();
        let of_state = |state: &TaskState| match &args.state {
            Some(name) => state.as_str() == name,
            None => true,
        };
        let states: Vec<TaskState> = STATES.into_iter().filter(of_state).collect();
        let places: Vec<(&QueueStatus, TaskState)> = states
            .iter()
            .flat_map(|state| queues.iter().map(move |queue| (*queue, *state)))
            .filter(|(queue, state)| stored(queue, *state) > 0)
            .collect();
        let total = places
            .iter()
            .map(|(queue, state)| stored(queue, *state))
            .sum();
        let mut rows = Vec::new();
        let mut search = Search::new(broker, Patience::ONE_SHOT);
        for (at, (queue, state)) in places.iter().enumerate() {
            let mut visit = |queue: &QueueName, task: StoredTask| {
                let row = Row::of(queue, task, &limits);
                if row.is_of(args.task.as_deref()) {
                    rows.push(row);
                }
                if rows.len() as u64 >= args.limit {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            };
            if search
                .through((&queue.queue, *state), &mut visit)
                .await?
                .is_break()
            {
                let left: u64 = places[at + 1..].iter().map(|(q, s)| stored(q, *s)).sum();
                search.is_complete &= left == 0;
                break;
            }
        }
        let revoked = rows.iter().map(|row| row.queue.clone()).collect();
        let revoked = Revoked::read(broker, revoked, Patience::ONE_SHOT).await?;
        rows.iter_mut().for_each(|row| row.judge(&revoked));
        Ok(Self {
            rows,
            looked: search.looked,
            total: std::cmp::max(total, search.looked),
            is_complete: search.is_complete,
        })
    }

    fn draw(&self, now: Timestamp) -> String {
        let head = [
            "STATE", "TASK", "ID", "QUEUE", "PRIO", "ATTEMPTS", "ENQUEUED", "",
        ];
        let rows: Vec<Vec<String>> = self.rows.iter().map(|row| row.cells(now)).collect();
        output::table(&head, &rows)
    }
}

impl Row {
    fn cells(&self, now: Timestamp) -> Vec<String> {
        let mut notes = Vec::new();
        notes.extend(self.fate.map(str::to_owned));
        notes.extend(self.due.map(|due| format!("due {}", when(due, now))));
        notes.extend(self.worker.as_ref().map(|worker| format!("on {worker}")));
        let mut cells = vec![self.state.to_string()];
        match &self.job {
            Ok(told) => {
                let header = &told.header;
                if header.deliveries > 0 {
                    notes.push(format!("rescued {}x", header.deliveries));
                }
                let failure = told.last_failure();
                notes.extend(failure.map(|last| format!("failed: {}", brief(last, 60))));
                cells.extend([
                    told.envelope.task.to_string(),
                    header.id.to_string(),
                    self.queue.to_string(),
                    header.priority.level().to_string(),
                    header.attempts.to_string(),
                    ago(header.enqueued_at, now),
                ]);
            }
            Err(reason) => {
                notes.push(format!(
                    "GARBAGE of {} bytes: {}",
                    self.bytes,
                    brief(reason, 100)
                ));
                let dash = || "-".to_owned();
                cells.extend([
                    dash(),
                    dash(),
                    self.queue.to_string(),
                    dash(),
                    dash(),
                    dash(),
                ]);
            }
        }
        cells.push(notes.join(", "));
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_shown_as_such() {
        let task = StoredTask {
            frame: b"{\x1b[31m".to_vec(),
            state: TaskState::Ready,
            due: None,
            holder: None,
        };
        let queue = QueueName::new("default").unwrap();
        let row = Row::of(&queue, task, &FrameLimits::default());
        assert!(row.is_of(None) && !row.is_of(Some("*")));
        let cells = row.cells(Timestamp::EPOCH).join(" ");
        assert!(cells.contains("GARBAGE of 6 bytes: a frame has at least 40 bytes"));
        assert_eq!(row.document()["bytes"], 6);
    }
}
