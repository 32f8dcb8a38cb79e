//! The outbox as a courier sees it, and how rows that were written by plain SQL become tasks.
//!
//! A queue has one call at a time: the primary key of the calls says so. The tasks of a call are marked one by one and not
//! by a range, because a transaction that began earlier may add a task between them later.

use std::sync::Arc;

use celeriac_actors::frame::encode_value;
use celeriac_actors::header::Priority;
use celeriac_actors::ids::{ChannelId, QueueName, TaskId, TaskName};
use celeriac_actors::ports::{EnqueueCall, EnqueueKind, NewTask, When};
use celeriac_actors::producer::{EnqueueOptions, Producer};
use celeriac_actors::registry::Registry;
use celeriac_actors::time::Timestamp;
use diesel::result::QueryResult;

use super::table::{CallRow, PlainRow, Steps, number};
use crate::spool::book::{Frozen, Plan};
use crate::spool::courier::Ledger;

/// How many rows without a frame are looked at in one step.
const STAMPS: i64 = 500;

/// An outbox, within a step.
pub(super) struct Rows<'a, C>(pub(super) &'a mut C);

impl<C: Steps> Ledger for Rows<'_, C> {
    fn next(&mut self, queue: &QueueName, plan: &Plan) -> QueryResult<Option<Frozen>> {
        let name = queue.as_str();
        let row = match self.0.call(name)? {
            Some(row) => row,
            None => {
                let seqs = self.first(name, plan)?;
                if seqs.is_empty() {
                    return Ok(None);
                }
                let row = CallRow {
                    queue: name.to_owned(),
                    channel: plan.channel.as_bytes().to_vec(),
                    number: number(plan.number),
                    remember: number(plan.remember),
                };
                self.0.freeze(&row, &seqs)?;
                row
            }
        };
        let rows = self.0.frozen(name)?;
        let seqs = || rows.iter().map(|(seq, ..)| *seq);
        let (first, last) = (seqs().min(), seqs().max());
        let tasks = rows.into_iter().map(|(_, due, frame)| NewTask {
            frame: frame.unwrap_or_default(),
            when: due.map_or(When::Now, |at| When::At(instant(at))),
        });
        let call = EnqueueCall {
            queue: queue.clone(),
            channel: ChannelId::from_bytes(row.channel.try_into().unwrap_or_default()),
            number: u64::try_from(row.number).unwrap_or_default(),
            tasks: tasks.collect(),
            kind: EnqueueKind::New,
            remember: std::time::Duration::from_millis(
                u64::try_from(row.remember).unwrap_or_default(),
            ),
        };
        Ok(Some(Frozen {
            id: 0,
            first: first.unwrap_or_default(),
            last: last.unwrap_or_default(),
            call,
        }))
    }

    fn done(&mut self, frozen: &Frozen) -> QueryResult<()> {
        if self.0.drop_call(&row_of(&frozen.call))? {
            let seqs = self.seqs(frozen)?;
            self.0.drop_rows(&seqs)?;
        }
        Ok(())
    }

    fn rename(
        &mut self,
        frozen: &Frozen,
        (channel, number): (ChannelId, u64),
        tasks: usize,
    ) -> QueryResult<()> {
        if !self.0.drop_call(&row_of(&frozen.call))? {
            return Ok(());
        }
        let mut seqs = self.seqs(frozen)?;
        let rest = seqs.split_off(tasks.min(seqs.len()));
        self.0.thaw(&rest)?;
        let call = EnqueueCall {
            channel,
            number,
            tasks: Vec::new(),
            ..frozen.call.clone()
        };
        self.0.freeze(&row_of(&call), &seqs)
    }

    fn reject(&mut self, frozen: &Frozen, reason: &str) -> QueryResult<()> {
        if self.0.drop_call(&row_of(&frozen.call))? {
            let seqs = self.seqs(frozen)?;
            self.0.reject(&seqs, reason)?;
        }
        Ok(())
    }
}

impl<C: Steps> Rows<'_, C> {
    fn seqs(&mut self, frozen: &Frozen) -> QueryResult<Vec<i64>> {
        let rows = self.0.frozen(frozen.call.queue.as_str())?;
        Ok(rows.into_iter().map(|(seq, ..)| seq).collect())
    }

    /// Returns the first tasks of a queue, as many as planned; a single large one alone.
    fn first(&mut self, queue: &str, plan: &Plan) -> QueryResult<Vec<i64>> {
        let sizes = self
            .0
            .next_sizes(queue, i64::try_from(plan.tasks).unwrap_or(i64::MAX))?;
        let mut bytes = 0;
        let fits = |(at, (seq, size)): (usize, (i64, i64))| {
            bytes += usize::try_from(size).unwrap_or_default();
            (at == 0 || bytes <= plan.bytes).then_some(seq)
        };
        Ok(sizes.into_iter().enumerate().map_while(fits).collect())
    }

    /// Makes tasks of the first rows that are none yet; returns how many could not be, with the last reason.
    pub(super) fn stamp(&mut self, press: &Press) -> QueryResult<(usize, Option<String>)> {
        let rows = self.0.plain(STAMPS)?;
        let (count, mut refused) = (rows.len(), None);
        for row in rows {
            let seq = row.seq;
            match press.print(row) {
                Ok((queue, frame)) => self.0.stamp(seq, queue.as_str(), &frame)?,
                Err(reason) => {
                    self.0.reject(&[seq], &reason)?;
                    refused = Some(reason);
                }
            }
        }
        Ok((count, refused))
    }
}

fn row_of(call: &EnqueueCall) -> CallRow {
    CallRow {
        queue: call.queue.as_str().to_owned(),
        channel: call.channel.as_bytes().to_vec(),
        number: number(call.number),
        remember: number(celeriac_actors::time::millis(call.remember)),
    }
}

fn instant(at: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(at).unwrap_or_default())
}

/// Makes tasks of rows that were written by plain SQL.
#[derive(Clone, Debug)]
pub(super) struct Press {
    pub(super) producer: Producer,
    /// The kinds of tasks that the program knows.
    pub(super) known: Arc<Registry>,
}

impl Press {
    /// Returns where the task of a row goes, and its frame.
    ///
    /// # Errors
    /// What is wrong with which column.
    fn print(&self, row: PlainRow) -> Result<(QueueName, Vec<u8>), String> {
        let wrong = |column: &'static str| {
            move |error: &dyn std::fmt::Display| format!("column `{column}`: {error}")
        };
        let name = TaskName::new(&row.task).map_err(|error| wrong("task")(&error))?;
        let args = row.args.as_deref().unwrap_or("null");
        let args: serde_json::Value =
            serde_json::from_str(args).map_err(|error| wrong("args")(&error))?;
        let args = encode_value(&args).map_err(|error| wrong("args")(&error))?;
        let mut options = EnqueueOptions::default();
        if let Some(queue) = &row.queue {
            let queue = QueueName::new(queue).map_err(|error| wrong("queue")(&error))?;
            options = options.queue(queue);
        }
        if let Some(level) = row.priority {
            let known = u8::try_from(level).ok().and_then(Priority::new);
            let priority = known.ok_or_else(|| wrong("priority")(&"it is 0 to 9"))?;
            options = options.priority(priority);
        }
        options.expires_at = row.expires_at.map(instant);
        if let Some(id) = &row.id {
            let id: TaskId = id.parse().map_err(|error| wrong("id")(&error))?;
            options = options.id(id);
        }
        if let Some(headers) = &row.headers {
            options.headers =
                serde_json::from_str(headers).map_err(|error| wrong("headers")(&error))?;
        }
        let sensitive = self.known.sensitive(&name).iter();
        options.sensitive = sensitive.map(|path| (*path).to_owned()).collect();
        let kind_queue = self.known.queue_of(&name).unwrap_or("default");
        let prepared = self
            .producer
            .prepare_encoded(&name, kind_queue, &args, options)
            .map_err(|error| error.to_string())?;
        Ok((prepared.handle.queue.clone(), prepared.task().frame.clone()))
    }
}
