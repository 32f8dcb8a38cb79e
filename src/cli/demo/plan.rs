//! What the demo enqueues, and how each task must end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use celeriac_actors::ids::{QueueName, TaskId};
use celeriac_actors::producer::{EnqueueOptions, Prepared, Producer};
use celeriac_actors::state::DeadReason;
use celeriac_actors::task::Task;
use serde_json::{Value, json};

use crate::cli::demo_tasks::{Abort, Block, Checksum, Echo, Fail, Flaky, Panic, Sleep, Spin};

/// The most files, and the largest, that are read.
const FILES: usize = 1_500;
const FILE_SIZE: u64 = 4 << 20;
/// How many places are looked at to find them.
const LOOKS: usize = 40_000;
/// With fewer real files than this, some are made.
const ENOUGH: usize = 300;

/// How a task must end.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum End {
    /// It succeeds with this output.
    Output(Value),
    /// It succeeds with the digest of this file.
    Digest(String),
    /// It dies for this reason.
    Dead(DeadReason),
    /// It dies, is revived when its file is there, and succeeds with the file's digest.
    Revived(String),
}

/// One task of the plan.
pub(super) struct Planned {
    pub(super) id: TaskId,
    pub(super) queue: QueueName,
    pub(super) end: End,
}

/// The tasks, in the order in which they are enqueued, and what is expected of them.
pub(super) struct Plan<'a> {
    producer: &'a Producer,
    pub(super) tasks: Vec<Planned>,
    prepared: Vec<Prepared>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(producer: &'a Producer) -> Self {
        Self {
            producer,
            tasks: Vec::new(),
            prepared: Vec::new(),
        }
    }

    /// Takes what is to be enqueued.
    pub(super) fn take(&mut self) -> Vec<Prepared> {
        std::mem::take(&mut self.prepared)
    }

    fn add<T: Task>(&mut self, queue: &str, task: &T, end: End) -> anyhow::Result<()> {
        let options = EnqueueOptions::default()
            .queue(QueueName::new(queue)?)
            // Of each task's end we want to know, also of those that return nothing.
            .want_outcome();
        let prepared = self.producer.prepare(task, options)?;
        self.tasks.push(Planned {
            id: prepared.handle.id,
            queue: prepared.handle.queue.clone(),
            end,
        });
        self.prepared.push(prepared);
        Ok(())
    }

    /// Adds the mix: mostly honest work, some that fails in every way there is.
    pub(super) fn mix(&mut self, files: &[PathBuf], missing: &Path) -> anyhow::Result<()> {
        self.add("kyb", &Spin { ms: 8_000 }, End::Output(Value::Null))?;
        for file in files {
            let path = file.to_string_lossy().into_owned();
            self.add("kyb", &Checksum { path: path.clone() }, End::Digest(path))?;
        }
        for i in 0..1_600 {
            let task = Sleep {
                ms: 100 + i * 37 % 200,
            };
            self.add("notifications", &task, End::Output(Value::Null))?;
        }
        for i in 0..500 {
            let value = json!({ "number": i, "text": "grüße", "nested": [i, null, 0.5] });
            let task = Echo {
                value: value.clone(),
            };
            self.add("default", &task, End::Output(value))?;
        }
        for i in 0..100 {
            self.add(
                "default",
                &Block { ms: 20 + i % 30 },
                End::Output(Value::Null),
            )?;
        }
        for i in 0..60_u16 {
            let fail_times = 1 + i % 3;
            let end = End::Output(json!(fail_times + 1));
            self.add("billing", &Flaky { fail_times }, end)?;
        }
        self.failures(missing)
    }

    fn failures(&mut self, missing: &Path) -> anyhow::Result<()> {
        for (count, permanent, message, reason) in [
            (
                8,
                false,
                "the payment provider said no",
                DeadReason::Exhausted,
            ),
            (6, true, "card declined", DeadReason::Permanent),
        ] {
            for _ in 0..count {
                let message = message.to_owned();
                let task = Fail { message, permanent };
                self.add("billing", &task, End::Dead(reason))?;
            }
        }
        for _ in 0..4 {
            self.add("billing", &Panic {}, End::Dead(DeadReason::Exhausted))?;
        }
        for i in 0..20 {
            let path = missing.join(format!("invoice-{i}.txt"));
            let path = path.to_string_lossy().into_owned();
            self.add("kyb", &Checksum { path: path.clone() }, End::Revived(path))?;
        }
        Ok(())
    }

    /// Adds a task that kills every process that runs it, and honest work around it.
    pub(super) fn poison(&mut self) -> anyhow::Result<usize> {
        const NEIGHBOURS: usize = 60;
        for i in 0..NEIGHBOURS {
            if i == NEIGHBOURS / 2 {
                self.add("default", &Abort {}, End::Dead(DeadReason::Poison))?;
            }
            self.add("default", &Sleep { ms: 50 }, End::Output(Value::Null))?;
        }
        Ok(NEIGHBOURS)
    }
}

/// Finds real files to read, and makes some below `own` where it has too few.
pub(super) fn files(own: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut places = vec![PathBuf::from("/usr/share")];
    let mut looks = 0;
    while let Some(place) = places.pop() {
        // What we may not read is not for us.
        let Ok(entries) = fs::read_dir(&place) else {
            continue;
        };
        for entry in entries.flatten() {
            looks += 1;
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                places.push(entry.path());
            } else if meta.is_file() && meta.len() <= FILE_SIZE && is_plain(&entry.path()) {
                found.push(entry.path());
            }
        }
        if found.len() >= FILES || looks > LOOKS {
            break;
        }
    }
    found.truncate(FILES);
    if found.len() < ENOUGH {
        fs::create_dir_all(own)?;
        for i in found.len()..ENOUGH {
            let path = own.join(format!("file-{i}"));
            fs::write(&path, format!("file {i}\n").repeat(i * 40))?;
            found.push(path);
        }
    }
    Ok(found)
}

/// A file that can be named in JSON and read by us.
fn is_plain(path: &Path) -> bool {
    path.to_str().is_some() && fs::File::open(path).is_ok()
}

/// Writes the files that were missing; returns how many.
pub(super) fn supply(tasks: &[Planned]) -> io::Result<usize> {
    let mut count = 0;
    for task in tasks {
        if let End::Revived(path) = &task.end {
            if let Some(parent) = Path::new(path).parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, format!("the file that was missing: {path}\n"))?;
            count += 1;
        }
    }
    Ok(count)
}
