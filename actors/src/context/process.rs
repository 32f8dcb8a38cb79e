//! The process that runs an attempt, as it is reached by who ends attempts: from any thread, without the one that waits for
//! it, which may be blocked.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A process that runs one attempt. Neither call waits, and neither does anything once the process was waited for: its
/// number may be somebody else's by then.
pub trait AttemptProcess: fmt::Debug + Send + Sync {
    /// Asks it to end.
    fn ask(&self);

    /// Ends it.
    fn kill(&self);
}

/// Where an attempt keeps its process.
#[derive(Debug, Default)]
pub(super) struct Reins(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    process: Option<Arc<dyn AttemptProcess>>,
    asked: bool,
    killed: bool,
}

impl Reins {
    /// Notes the process. One that comes when the attempt was taken away already is killed.
    pub(super) fn take_up(&self, process: Arc<dyn AttemptProcess>) {
        let mut state = self.lock();
        if state.killed {
            process.kill();
        }
        state.process = Some(process);
    }

    /// Forgets the process: it is gone, or somebody else's. Returns whether it was killed meanwhile.
    pub(super) fn let_go(&self) -> bool {
        let mut state = self.lock();
        state.process = None;
        state.killed
    }

    pub(super) fn is_held(&self) -> bool {
        self.lock().process.is_some()
    }

    /// Asks the process to end, once.
    pub(super) fn ask(&self) {
        let mut state = self.lock();
        if let Some(process) = &state.process
            && !state.asked
            && !state.killed
        {
            process.ask();
            state.asked = true;
        }
    }

    /// Kills the process, also one that is not known yet.
    pub(super) fn kill(&self) {
        let mut state = self.lock();
        if !std::mem::replace(&mut state.killed, true)
            && let Some(process) = &state.process
        {
            process.kill();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Held while a signal is sent, so that whoever lets go of a process knows what it was sent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Counted {
        asked: AtomicU32,
        killed: AtomicU32,
    }

    impl AttemptProcess for Counted {
        fn ask(&self) {
            self.asked.fetch_add(1, Ordering::SeqCst);
        }

        fn kill(&self) {
            self.killed.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn counts(process: &Counted) -> (u32, u32) {
        let of = |count: &AtomicU32| count.load(Ordering::SeqCst);
        (of(&process.asked), of(&process.killed))
    }

    #[test]
    fn a_process_is_asked_and_killed_once() {
        let (reins, process) = (Reins::default(), Arc::new(Counted::default()));
        reins.ask();
        reins.take_up(Arc::clone(&process) as _);
        reins.ask();
        reins.ask();
        assert!(reins.is_held());
        reins.kill();
        reins.kill();
        assert_eq!(counts(&process), (1, 1));
        assert!(reins.let_go());
    }

    #[test]
    fn a_process_that_is_somebody_elses_is_left_in_peace() {
        let (reins, process) = (Reins::default(), Arc::new(Counted::default()));
        reins.take_up(Arc::clone(&process) as _);
        assert!(!reins.let_go());
        reins.ask();
        reins.kill();
        assert_eq!(counts(&process), (0, 0));
    }

    #[test]
    fn a_process_that_comes_too_late_is_killed_at_once() {
        let (reins, process) = (Reins::default(), Arc::new(Counted::default()));
        reins.kill();
        reins.take_up(Arc::clone(&process) as _);
        reins.kill();
        assert_eq!(counts(&process), (0, 1));
    }
}
