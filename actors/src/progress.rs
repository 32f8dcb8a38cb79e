//! Progress: how far an attempt has come, as its task says.
//!
//! Reporting is cheap: it changes a value that the attempt carries. Who tells it is not the attempt but the worker's
//! beat, once a second for all attempts together; the last report is kept with the task's result.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::context::AttemptContext;
use crate::failure::cut;
use crate::frame::{decode_value, encode_value};
use crate::lease::FinalRecord;
use crate::time::Timestamp;

/// The longest note kept, in bytes.
pub const MAX_NOTE: usize = 200;

/// How far an attempt has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// How much is done.
    pub done: u64,
    /// How much there is to do; 0 where nobody knows.
    pub total: u64,
    /// What the task says about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// When it was reported, by the worker's clock.
    pub at: Timestamp,
}

impl Progress {
    /// Returns how much is done in percent, where the total is known; at most 100.
    #[must_use]
    pub fn percent(&self) -> Option<u8> {
        let share = u128::from(self.done) * 100 / u128::from(self.total).max(1);
        (self.total > 0).then(|| u8::try_from(share.min(100)).unwrap_or(100))
    }
}

impl std::fmt::Display for Progress {
    /// Writes such as `40 of 100 (40 %): resizing`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.percent() {
            Some(percent) => write!(f, "{} of {} ({percent} %)", self.done, self.total)?,
            None => write!(f, "{}", self.done)?,
        }
        if self.note.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.note)
        }
    }
}

/// Who is told of the progress of an attempt, from whatever thread its code runs on; must not wait.
pub type Listener = Arc<dyn Fn(&Progress) + Send + Sync>;

/// How far apart two reports are that a listener hears of.
const TELL: Duration = Duration::from_millis(250);

/// Where an attempt carries its progress.
#[derive(Default)]
pub(crate) struct Report {
    last: Mutex<Option<Progress>>,
    listener: OnceLock<(Listener, Mutex<Option<Timestamp>>)>,
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Report").field(&self.get()).finish()
    }
}

impl Report {
    /// Has somebody told of it, now and then.
    pub(crate) fn listen(&self, listener: Listener) {
        // The first one stays.
        let _only_once = self.listener.set((listener, Mutex::default()));
    }

    /// Tells the listener, unless it heard of an earlier report just now.
    fn tell(&self, at: Timestamp) {
        let Some((listener, told)) = self.listener.get() else {
            return;
        };
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|last| at.since(last) >= TELL || at < last)
            && let Some(progress) = self.get()
        {
            *told = Some(at);
            listener(&progress);
        }
    }

    /// Takes what another process told.
    pub(crate) fn put(&self, progress: Progress) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
    }

    fn set(&self, (done, total, note): (u64, u64, &str), at: Timestamp) {
        let mut report = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let progress = report.get_or_insert_default();
        (progress.done, progress.total, progress.at) = (done, total, at);
        progress.note.clear();
        let mut end = note.len().min(4 * MAX_NOTE);
        while !note.is_char_boundary(end) {
            end -= 1;
        }
        progress.note.push_str(&note[..end]);
        progress.note = cut(std::mem::take(&mut progress.note), MAX_NOTE);
        drop(report);
        self.tell(at);
    }

    pub(crate) fn get(&self) -> Option<Progress> {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl AttemptContext {
    /// Says how far the task has come: `done` of `total` (0 where nobody knows), and a note of at most [`MAX_NOTE`] bytes.
    ///
    /// Costs little and may be called often: only the last report of a second is told. `celeriac task show` shows it, and
    /// it is kept with the result. An attempt starts without any.
    ///
    /// ```
    /// # use celeriac_actors::attempt::Attempt;
    /// # use celeriac_actors::task::TaskError;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Serialize, Deserialize)]
    /// # struct Import { rows: u64 }
    /// # celeriac_actors::task!(Import as "import");
    /// async fn import(attempt: Attempt<Import>) -> Result<(), TaskError> {
    ///     for row in 0..attempt.args.rows {
    ///         attempt.progress(row, attempt.args.rows, "importing");
    ///         // ...
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn progress(&self, done: u64, total: u64, note: &str) {
        let at = self.worker_context().clock.now();
        self.report().set((done, total, note), at);
    }
}

/// What begins a stored body that has progress before it: no MessagePack does.
const MARK: u8 = 0xc1;

impl FinalRecord {
    /// Returns the bytes that a broker stores for the body, the progress included.
    #[must_use]
    pub fn stored_body(&self) -> std::borrow::Cow<'_, [u8]> {
        let Some(progress) = &self.progress else {
            return self.body.as_slice().into();
        };
        let Ok(progress) = encode_value(progress) else {
            return self.body.as_slice().into();
        };
        let mut stored = vec![MARK];
        let len = u16::try_from(progress.len()).unwrap_or(0);
        stored.extend_from_slice(&len.to_be_bytes());
        stored.extend_from_slice(&progress[..usize::from(len)]);
        stored.extend_from_slice(&self.body);
        stored.into()
    }

    /// Takes stored bytes apart into body and progress. What cannot be read is body.
    #[must_use]
    pub fn split_body(mut stored: Vec<u8>) -> (Vec<u8>, Option<Progress>) {
        let parts = |stored: &[u8]| {
            let (mark, rest) = stored.split_first()?;
            let (len, rest) = rest.split_first_chunk::<2>()?;
            let len = usize::from(u16::from_be_bytes(*len));
            let progress = rest.get(..len).filter(|_| *mark == MARK)?;
            let limits = crate::frame::FrameLimits::default();
            let progress = decode_value::<Progress>(progress, &limits).ok()?;
            Some((3 + len, progress))
        };
        match parts(&stored) {
            Some((at, progress)) => (stored.split_off(at), Some(progress)),
            None => (stored, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::TaskId;
    use crate::state::TaskState;

    fn record(body: Vec<u8>, progress: Option<Progress>) -> FinalRecord {
        FinalRecord {
            id: TaskId::from_bytes([1; 16]),
            state: TaskState::Succeeded,
            body,
            attempts: 1,
            ttl: std::time::Duration::from_secs(1),
            progress,
        }
    }

    #[test]
    fn it_is_shown_in_words() {
        let report = Report::default();
        report.set((40, 100, "resizing"), Timestamp::EPOCH);
        assert_eq!(
            report.get().unwrap().to_string(),
            "40 of 100 (40 %): resizing"
        );
        report.set((7, 0, ""), Timestamp::EPOCH);
        assert_eq!(report.get().unwrap().to_string(), "7");
        report.set((u64::MAX, 1, &"ä".repeat(9_000)), Timestamp::EPOCH);
        let most = report.get().unwrap();
        assert_eq!(most.percent(), Some(100));
        assert!(most.note.len() <= MAX_NOTE && most.note.ends_with('…'));
    }

    #[test]
    fn a_listener_hears_the_first_report_and_then_a_few_a_second() {
        let report = Report::default();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        report.listen(Arc::new(move |progress: &Progress| {
            hears.lock().unwrap().push(progress.done);
        }));
        for millis in 0..1_000 {
            report.set((millis, 1_000, ""), Timestamp::from_millis(millis));
        }
        assert_eq!(*heard.lock().unwrap(), [0, 250, 500, 750]);
        assert_eq!(report.get().unwrap().done, 999);
    }

    proptest! {
        #[test]
        fn what_is_stored_comes_back(
            body in prop::collection::vec(any::<u8>(), 0..60).prop_filter("no MessagePack begins so", |b| b.first() != Some(&MARK)),
            progress in prop::option::of((any::<u64>(), any::<u64>(), ".{0,80}")),
        ) {
            let progress = progress.map(|(done, total, note)| Progress { done, total, note, at: Timestamp::from_millis(5) });
            let record = record(body.clone(), progress.clone());
            prop_assert_eq!(FinalRecord::split_body(record.stored_body().into_owned()), (body, progress));
        }

        #[test]
        fn garbage_is_body(garbage in prop::collection::vec(any::<u8>(), 0..60)) {
            let (body, progress) = FinalRecord::split_body(garbage.clone());
            prop_assert!(progress.is_some() || body == garbage);
        }
    }
}
