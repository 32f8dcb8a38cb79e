//! Goal: panics inside of our guards are data, panics outside of them still reach the hook that was there before.
//! Method: a process of its own, since a hook belongs to the whole process.

use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};

use celeriac_actors::panics;

static SEEN: AtomicUsize = AtomicUsize::new(0);

#[test]
fn the_previous_hook_sees_exactly_the_panics_that_nobody_guards() {
    panic::set_hook(Box::new(|_| {
        SEEN.fetch_add(1, Ordering::SeqCst);
    }));
    panics::install();
    panics::install();

    let guarded = panics::catch_call(|| panic!("guarded")).unwrap_err();
    assert_eq!(guarded.message, "guarded");
    assert!(guarded.location.unwrap().contains("panic_hook.rs"));
    assert_eq!(SEEN.load(Ordering::SeqCst), 0);

    assert!(panic::catch_unwind(|| panic!("not guarded")).is_err());
    assert_eq!(SEEN.load(Ordering::SeqCst), 1);
    assert_eq!(panics::take_last(), None);

    // A guard on one thread is none on another.
    let inside = panics::catch_call(|| std::thread::spawn(|| panic!("elsewhere")).join().is_err());
    assert_eq!(inside, Ok(true));
    assert_eq!(SEEN.load(Ordering::SeqCst), 2);
}
