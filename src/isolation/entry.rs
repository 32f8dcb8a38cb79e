//! Where a process finds out whether it is a child.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::app::App;

/// The variable that names a child's parent. A process that inherits it by accident is no child of that process.
pub(super) const CHILD_OF: &str = "_CELERIAC_CHILD_OF";

/// Whether this program lets its processes become children.
static ENTERED: AtomicBool = AtomicBool::new(false);

/// Lets the program run attempts in child processes: call it first in `main`, before anything else is done or read.
///
/// In a child it runs attempts until the worker is gone, and never returns; `app` is called there when the first attempt
/// comes. Everywhere else it returns at once, and tasks with [`Mode::Isolated`](celeriac_actors::mode::Mode::Isolated)
/// may be used. Programs that call [`cli::main`](crate::cli::main) need not call it.
///
/// ```no_run
/// use celeriac::App;
///
/// fn app() -> App {
///     App::new()
/// }
///
/// fn main() {
///     celeriac::isolation::enter(app);
///     // … `Runtime::start(app(), …)`
/// }
/// ```
pub fn enter(app: impl FnOnce() -> App) {
    if let Some(newborn) = Newborn::of_this_process() {
        // Everything that has to be told is told by then; nothing of `main` may run here.
        process::exit(newborn.live(|_| app()).into());
    }
}

/// Returns whether attempts of this program can run in child processes.
#[must_use]
pub fn is_entered() -> bool {
    ENTERED.load(Ordering::Acquire)
}

/// The knowledge that this process is a child.
#[derive(Debug)]
pub(crate) struct Newborn {
    parent: u32,
}

impl Newborn {
    /// Finds out whether this process is a child; one that is none may have some from here on.
    pub(crate) fn of_this_process() -> Option<Self> {
        let parent = std::env::var_os(CHILD_OF).and_then(|pid| pid.to_str()?.parse().ok());
        let newborn = parent
            .filter(|parent| *parent == std::os::unix::process::parent_id())
            .map(|parent| Self { parent });
        if newborn.is_none() {
            ENTERED.store(true, Ordering::Release);
        }
        newborn
    }

    /// Runs attempts until the worker is gone; returns the exit code. `app` is told whether the demo tasks are wanted too.
    pub(crate) fn live(self, app: impl FnOnce(bool) -> App) -> u8 {
        super::child::live(self.parent, app)
    }
}
