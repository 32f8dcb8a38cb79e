//! Panics as data: message, place and backtrace of a panic that happens inside a guarded call.
//!
//! [`install`] chains a hook before the one that is already there. A panic inside a guarded section ([`catch`],
//! [`catch_call`]) is recorded on its thread and stays quiet, because whoever guards it reports it; every other panic
//! goes to the previous hook untouched. Invariants: nothing here panics or blocks in the hook; a report is bounded
//! ([`PanicReport::MAX_MESSAGE`], [`PanicReport::MAX_FRAMES`]); a panic in a destructor of the guarded future is caught like one in
//! its body. Without the hook (or with one that somebody set over it) a panic is still caught, but without its place.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::task::Poll;

use serde::{Deserialize, Serialize};

/// What is known about one panic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PanicReport {
    /// What the panic said, cut to [`PanicReport::MAX_MESSAGE`] characters.
    pub message: String,
    /// Where it happened, as `file:line:column`; unknown when the hook is not installed.
    pub location: Option<String>,
    /// The frames above the guard, innermost first; present when backtraces are on (see [`force_backtraces`]).
    pub backtrace: Option<String>,
}

impl PanicReport {
    /// The longest message that is kept, in characters.
    pub const MAX_MESSAGE: usize = 1_000;

    /// The most lines of backtrace that are kept.
    pub const MAX_FRAMES: usize = 50;

    pub(crate) fn of_payload(payload: &(dyn Any + Send)) -> Self {
        Self {
            message: message_of(payload),
            location: None,
            backtrace: None,
        }
    }
}

impl fmt::Display for PanicReport {
    /// Writes the message and, when it is known, the place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Some(location) => write!(f, "{} (at {location})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

static INSTALLED: Once = Once::new();
static FORCE_BACKTRACES: AtomicBool = AtomicBool::new(false);

/// A panic seen while its thread still unwinds; rendered by whoever reports it, later.
#[derive(Clone, Debug)]
pub struct SharedPanic(Arc<Recorded>);

impl SharedPanic {
    /// Returns what is known of the panic. Symbols cost milliseconds the first time.
    #[must_use]
    pub fn report(&self) -> PanicReport {
        self.0.report()
    }
}

thread_local! {
    /// How many guarded calls are on this thread's stack.
    static GUARDS: Cell<u32> = const { Cell::new(0) };
    /// The last panic the hook saw inside a guard. Rendered only when it is taken: symbols cost milliseconds.
    static LAST: RefCell<Option<Arc<Recorded>>> = const { RefCell::new(None) };
}

/// What the hook writes down: as little work as possible, since it runs in the middle of a panic.
#[derive(Debug)]
struct Recorded {
    message: String,
    location: Option<String>,
    backtrace: Backtrace,
}

impl Recorded {
    fn report(&self) -> PanicReport {
        PanicReport {
            message: self.message.clone(),
            location: self.location.clone(),
            backtrace: render(&self.backtrace),
        }
    }
}

/// Puts our hook before the present one. Safe to call often and from every thread; only the first call acts.
pub fn install() {
    INSTALLED.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !record(info) {
                previous(info);
            }
        }));
    });
}

/// Turns backtraces of guarded panics on or off for the whole process.
///
/// Off (the default) leaves it to `RUST_BACKTRACE`. One costs some microseconds at the panic and, the first time,
/// tens of milliseconds when it is rendered.
pub fn force_backtraces(on: bool) {
    FORCE_BACKTRACES.store(on, Ordering::Relaxed);
}

/// Returns and forgets what the hook recorded last on this thread.
///
/// [`catch`] and [`catch_call`] take it by themselves; this is for whoever catches an unwind inside of a guard.
#[must_use]
pub fn take_last() -> Option<PanicReport> {
    let recorded = LAST
        .try_with(|last| last.try_borrow_mut().ok()?.take())
        .ok()??;
    Some(recorded.report())
}

/// Returns what the hook recorded last on this thread and leaves it there, for destructors that run during the unwind.
#[must_use]
pub fn share_last() -> Option<SharedPanic> {
    LAST.try_with(|last| last.try_borrow().ok()?.clone().map(SharedPanic))
        .ok()?
}

/// Calls `body` and returns what it returned, or the report of its panic.
///
/// The caller vouches for unwind safety: what `body` shared with others may be left half changed.
///
/// # Errors
/// The report of the panic, when `body` panicked.
pub fn catch_call<T>(body: impl FnOnce() -> T) -> Result<T, PanicReport> {
    let depth = Depth::enter();
    let outcome = panic::catch_unwind(AssertUnwindSafe(body));
    drop(depth);
    outcome.map_err(|payload| {
        let seen = PanicReport::of_payload(&*payload);
        // A payload may panic in turn when it is dropped; that must not leave this function.
        if let Err(second) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(second);
        }
        // `resume_unwind` calls no hook: what is recorded then belongs to an older panic that somebody caught.
        match take_last() {
            Some(last) if last.message == seen.message => last,
            _ => seen,
        }
    })
}

/// Awaits `future` and returns its output, or the report of the panic of one of its polls or of its destructor.
///
/// Only polls are guarded, never the time between them, so that guards of tasks on one thread do not mix.
///
/// # Errors
/// The report of the panic; the future has been dropped by then.
///
/// # Cancel safety
/// Dropping this future drops the inner one, unguarded.
pub async fn catch<F: Future>(future: F) -> Result<F::Output, PanicReport> {
    let mut slot = pin!(Some(future));
    let outcome = poll_fn(|cx| match slot.as_mut().as_pin_mut() {
        Some(inner) => match catch_call(|| inner.poll(cx)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(report) => Poll::Ready(Err(report)),
        },
        None => Poll::Pending,
    })
    .await;
    // Dropped here and not at the end of the scope: a destructor that panics must find a guard.
    match catch_call(|| slot.set(None)) {
        Ok(()) => outcome,
        Err(in_destructor) => outcome.and(Err(in_destructor)),
    }
}

/// Counts a guard in for as long as it lives.
struct Depth;

impl Depth {
    fn enter() -> Self {
        GUARDS.with(|guards| {
            if guards.get() == 0 {
                // Nothing an earlier guard left behind may be taken for ours.
                LAST.with(|last| last.take());
            }
            guards.set(guards.get() + 1);
        });
        Self
    }
}

impl Drop for Depth {
    fn drop(&mut self) {
        GUARDS.with(|guards| guards.set(guards.get() - 1));
    }
}

/// Records the panic when it happens inside a guard, and returns whether it did.
fn record(info: &PanicHookInfo<'_>) -> bool {
    // `try_with`, `try_borrow_mut`: a thread that is going away has no locals any more, and a hook must not panic.
    if GUARDS.try_with(Cell::get).unwrap_or(0) == 0 {
        return false;
    }
    let backtrace = if FORCE_BACKTRACES.load(Ordering::Relaxed) {
        Backtrace::force_capture()
    } else {
        Backtrace::capture()
    };
    let recorded = Recorded {
        message: message_of(info.payload()),
        location: info.location().map(ToString::to_string),
        backtrace,
    };
    LAST.try_with(|last| match last.try_borrow_mut() {
        Ok(mut last) => {
            *last = Some(Arc::new(recorded));
            true
        }
        Err(_) => false,
    })
    .unwrap_or(false)
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    let text = if let Some(text) = payload.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.as_str()
    } else {
        "a panic whose payload is not text"
    };
    text.chars().take(PanicReport::MAX_MESSAGE).collect()
}

/// Renders the frames between the panic machinery and our guard, or nothing when none were captured.
fn render(backtrace: &Backtrace) -> Option<String> {
    if backtrace.status() != BacktraceStatus::Captured {
        return None;
    }
    let text = backtrace.to_string();
    Some(
        own_frames(&text)
            .take(PanicReport::MAX_FRAMES)
            .collect::<Vec<_>>()
            .join("\n"),
    )
}

/// Returns the lines after the frames of the panic machinery and before those of the guard.
///
/// Falls back to every line where the machinery is not to be seen (a stripped binary).
fn own_frames(text: &str) -> impl Iterator<Item = &str> {
    const MACHINERY: [&str; 4] = [
        "core::panicking::",
        "std::panicking::begin_panic",
        "rust_begin_unwind",
        "__rustc::",
    ];
    let is_location = |line: &str| line.trim_start().starts_with("at ");
    let skip = text
        .lines()
        .enumerate()
        .filter(|(_, line)| MACHINERY.iter().any(|frame| line.contains(frame)))
        .last()
        .map_or(0, |(index, _)| index + 1);
    text.lines()
        .skip(skip)
        .skip_while(move |line| skip > 0 && is_location(line))
        .take_while(|line| !line.contains("celeriac_actors::panics::catch_call"))
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    #[test]
    fn reports_message_and_place() {
        install();
        install();
        let line = line!() + 1;
        let report = catch_call(|| panic!("attempt {} failed", 7)).unwrap_err();
        assert_eq!(report.message, "attempt 7 failed");
        let place = report.location.unwrap();
        assert!(
            place.contains("panics.rs") && place.contains(&format!(":{line}:")),
            "{place}"
        );
        assert_eq!(take_last(), None);
    }

    #[test]
    fn a_caught_panic_inside_does_not_stand_in_for_a_later_one() {
        install();
        let report = catch_call(|| {
            let inner = catch_call(|| panic!("inner")).unwrap_err();
            assert_eq!(inner.message, "inner");
            let by_hand = panic::catch_unwind(|| panic!("by hand"));
            assert!(by_hand.is_err());
            panic::resume_unwind(Box::new("resumed"));
        })
        .unwrap_err();
        assert_eq!(
            (report.message.as_str(), report.location),
            ("resumed", None)
        );
    }

    #[test]
    fn long_and_strange_payloads_are_bounded() {
        install();
        let long = catch_call(|| panic!("{}", "ä".repeat(5_000))).unwrap_err();
        assert_eq!(long.message.chars().count(), PanicReport::MAX_MESSAGE);

        struct Grenade;
        impl Drop for Grenade {
            fn drop(&mut self) {
                panic!("a payload that panics when dropped");
            }
        }
        let strange = catch_call(|| panic_any(Grenade)).unwrap_err();
        assert_eq!(strange.message, "a panic whose payload is not text");
    }

    #[test]
    fn the_backtrace_is_bounded_and_starts_at_the_panic() {
        fn deep(n: u32) -> u32 {
            assert!(n > 0, "bottom");
            std::hint::black_box(deep(n - 1)) + 1
        }
        install();
        force_backtraces(true);
        let report = catch_call(|| deep(100)).unwrap_err();
        force_backtraces(false);
        let backtrace = report.backtrace.unwrap();
        assert!(backtrace.lines().count() <= PanicReport::MAX_FRAMES);
        assert!(
            backtrace.lines().next().unwrap().contains("deep"),
            "{backtrace}"
        );
    }

    #[test]
    fn catches_polls_and_destructors_of_a_future() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("destructor");
            }
        }
        install();
        let run = |future| {
            tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap()
                .block_on(future)
        };
        assert_eq!(
            run(Box::pin(catch(async { 5 })) as futures_util::future::LocalBoxFuture<'_, _>),
            Ok(5)
        );
        let late = run(Box::pin(catch(async {
            tokio::task::yield_now().await;
            panic!("second poll")
        })));
        assert_eq!(late.unwrap_err().message, "second poll");
        let bomb = Bomb;
        let dropped = run(Box::pin(catch(poll_fn(move |_| {
            let _held = &bomb;
            Poll::Ready(5)
        }))));
        assert_eq!(dropped.unwrap_err().message, "destructor");
    }

    /// Goal: a panic outside of our guards reaches the hook that was there before.
    /// Method: its own process-wide hook can only be set once, so this test runs the hook's decision by itself.
    #[test]
    fn a_panic_outside_of_a_guard_is_left_to_the_previous_hook() {
        install();
        let outside = std::thread::spawn(|| {
            let caught =
                panic::catch_unwind(|| panic!("printed by the previous hook, as it should be"));
            (caught.is_err(), take_last())
        });
        assert_eq!(outside.join().unwrap(), (true, None));
    }
}
