//! Pages of stored tasks, and the whole of a queue as one line of text.

use super::state::{Queue, State};
use crate::header::Header;
use crate::ids::QueueName;
use crate::lease::MAX_BATCH;
use crate::ports::{BrokerError, Cursor, ScanPage, ScanRequest, StoredTask};
use crate::state::TaskState;

impl State {
    pub(super) fn scan(&self, request: &ScanRequest) -> Result<ScanPage, BrokerError> {
        let skip = position(request)?;
        if request.limit == 0 || request.limit > MAX_BATCH {
            let limit = request.limit;
            return Err(BrokerError::Invalid(format!("a page of {limit} tasks")));
        }
        let tasks = self.queues.get(&request.queue);
        let tasks = tasks.map_or_else(Vec::new, |queue| queue.stored(request.state));
        let end = skip.saturating_add(request.limit as usize);
        let next = (end < tasks.len()).then(|| Cursor(format!("{}:{end}", request.state)));
        let page = tasks.into_iter().skip(skip).take(request.limit as usize);
        Ok(ScanPage {
            tasks: page.collect(),
            next,
        })
    }

    pub(super) fn snapshot(&self, name: &QueueName) -> String {
        let Some(queue) = self.queues.get(name) else {
            return "never heard of".into();
        };
        let dead = self.graves.dead.values().filter(|dead| dead.queue == *name);
        let dead: Vec<String> = dead
            .map(|dead| format!("{}:{}", label(&dead.frame), dead.reason))
            .collect();
        format!(
            "ready [{}] scheduled [{}] retrying [{}] active [{}] dead [{}]{}",
            queue.labels(TaskState::Ready),
            queue.labels(TaskState::Scheduled),
            queue.labels(TaskState::Retrying),
            queue.labels(TaskState::Active),
            dead.join(" "),
            if queue.paused { " paused" } else { "" },
        )
    }
}

impl Queue {
    fn stored(&self, state: TaskState) -> Vec<StoredTask> {
        let task = |frame: &Vec<u8>| StoredTask {
            frame: frame.clone(),
            state,
            due: None,
            holder: None,
        };
        match state {
            TaskState::Ready => self.ready.iter().rev().flatten().map(task).collect(),
            TaskState::Active => {
                let lives = self.lives.values().chain(self.orphans.values());
                let held = lives.flat_map(|life| {
                    let holder = (life.incarnation.worker.clone(), life.incarnation.id);
                    life.held.values().map(move |held| StoredTask {
                        holder: Some(holder.clone()),
                        ..task(&held.frame)
                    })
                });
                held.collect()
            }
            _ => {
                let waiting = self.waiting.iter();
                let these = waiting.filter(|(_, waiting)| waiting.state == state);
                let dated = these.map(|((due, _), waiting)| StoredTask {
                    due: Some(*due),
                    ..task(&waiting.frame)
                });
                dated.collect()
            }
        }
    }

    fn labels(&self, state: TaskState) -> String {
        let tasks = self.stored(state);
        let labels: Vec<String> = tasks.iter().map(|task| label(&task.frame)).collect();
        labels.join(" ")
    }
}

/// Returns what a snapshot calls a task: its id as a small number or its last four digits, and `#n` after n rescues.
pub(in crate::testkit) fn label(frame: &[u8]) -> String {
    let Ok(header) = Header::read(frame) else {
        return "garbage".into();
    };
    let number = header.id.as_uuid().as_u128();
    let name = if number < 1_000_000 {
        number.to_string()
    } else {
        format!("{:04x}", number & 0xffff)
    };
    match header.deliveries {
        0 => name,
        rescues => format!("{name}#{rescues}"),
    }
}

/// Returns where a scan goes on.
fn position(request: &ScanRequest) -> Result<usize, BrokerError> {
    let state = request.state;
    if state.is_final() {
        return Err(BrokerError::Invalid(format!(
            "{state} tasks are not stored"
        )));
    }
    let Some(Cursor(cursor)) = &request.after else {
        return Ok(0);
    };
    cursor
        .split_once(':')
        .filter(|(of, _)| *of == state.as_str())
        .and_then(|(_, at)| at.parse().ok())
        .ok_or_else(|| BrokerError::Invalid(format!("{cursor:?} is no place in a scan of {state}")))
}
