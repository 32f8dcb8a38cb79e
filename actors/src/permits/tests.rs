//! Fairness, caps, and that no permit is ever made up or lost.

use super::*;
use futures_util::FutureExt;
use proptest::prelude::*;

fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

fn acquire_all(seat: &mut Seat, want: usize) -> usize {
    let mut got = 0;
    loop {
        let more = seat.acquire(want - got);
        got += more;
        if more == 0 || got == want {
            return got;
        }
    }
}

/// Goal: no permit is idle while somebody waits, though shares are rounded down.
/// Method: three queues that want everything, four permits.
#[test]
fn rounding_leaves_no_permit_idle() {
    let permits = Permits::new(4, 8, &[]);
    let names = ["a", "b", "c"];
    let mut seats: Vec<Seat> = names
        .iter()
        .map(|name| permits.seat(&queue(name), 1))
        .collect();
    for _ in 0..4 {
        for seat in &mut seats {
            seat.acquire(4);
        }
    }
    assert_eq!(permits.totals(), (4, 0));
    assert!(seats.iter().all(|seat| seat.held() >= 1));
}

#[test]
fn an_only_queue_takes_everything_and_a_waiting_one_gets_its_share_back() {
    let permits = Permits::new(8, 16, &[]);
    let (mut a, mut b) = (permits.seat(&queue("a"), 1), permits.seat(&queue("b"), 1));
    assert_eq!(acquire_all(&mut a, 100), 8);
    assert_eq!(b.acquire(100), 0);
    assert!(a.is_contended() && !b.is_contended());
    a.release(1);
    assert_eq!(a.acquire(1), 0, "a is above its share while b waits");
    assert_eq!(b.acquire(100), 1);
    a.release(7);
    a.acquire(100);
    b.acquire(100);
    assert!(a.held() >= 1 && b.held() >= 1);
}

#[test]
fn weights_and_caps_hold() {
    let shares = [
        (
            queue("a"),
            QueueShare {
                weight: 3,
                cap: None,
            },
        ),
        (
            queue("b"),
            QueueShare {
                weight: 1,
                cap: Some(1),
            },
        ),
    ];
    let permits = Permits::new(8, 16, &shares);
    let (mut a, mut b) = (permits.seat(&queue("a"), 1), permits.seat(&queue("b"), 1));
    assert_eq!(acquire_all(&mut b, 5), 1);
    assert_eq!(
        acquire_all(&mut a, 100),
        7,
        "a capped queue that is full does not hold others back"
    );
}

#[test]
fn a_dropped_seat_gives_back_what_it_held() {
    let permits = Permits::new(4, 4, &[]);
    let mut seat = permits.seat(&queue("a"), 1);
    acquire_all(&mut seat, 4);
    assert_eq!(seat.reserve(10), 4);
    drop(seat);
    assert_eq!(permits.totals(), (4, 4));
    assert_eq!(permits.seat(&queue("b"), 1).reserve(10), 4);
}

/// Goal: what a blocked thread holds and cannot use goes to others, once; what it runs stays its own, and what it gives
/// back later is only what is left.
#[test]
fn idle_permits_of_a_blocked_thread_are_given_to_others() {
    let permits = Permits::new(8, 16, &[]);
    let (mut blocked, mut other) = (permits.seat(&queue("a"), 1), permits.seat(&queue("a"), 2));
    assert_eq!(acquire_all(&mut blocked, 8), 8);
    assert_eq!(other.acquire(8), 0);
    assert!(!permits.has_room(&queue("a")));
    for _ in 0..2 {
        permits.reclaim(1, |_| 3);
        assert_eq!((permits.totals(), blocked.held()), ((8, 5), 3));
    }
    assert!(other.available().now_or_never().is_some(), "it is woken");
    assert!(permits.freed().now_or_never().is_some());
    assert_eq!(acquire_all(&mut other, 8), 5);

    // The thread answers again: it gives back what it thinks is idle, and takes some anew.
    blocked.release(8);
    assert_eq!((permits.totals(), blocked.held()), ((8, 3), 0));
    assert_eq!(blocked.acquire(1), 1);
    permits.reclaim(1, |_| 1);
    assert_eq!(blocked.held(), 1);
    drop((blocked, other));
    assert_eq!(permits.totals(), (8, 8));
}

proptest! {
    #[test]
    fn permits_are_never_made_up_and_never_lost(
        steps in proptest::collection::vec((0_usize..4, 0_usize..9, any::<bool>()), 0..200),
    ) {
        let permits = Permits::new(7, 14, &[(queue("q1"), QueueShare { weight: 5, cap: Some(3) })]);
        let mut seats: Vec<Seat> =
            ["q0", "q1", "q2", "q1"].iter().map(|q| permits.seat(&queue(q), 1)).collect();
        for (seat, count, take) in steps {
            if take { seats[seat].acquire(count); } else { seats[seat].release(count); }
            let held: usize = seats.iter().map(Seat::held).sum();
            prop_assert_eq!(held + permits.totals().1, 7);
            prop_assert!(seats[1].held() + seats[3].held() <= 3);
        }
    }

    #[test]
    fn every_waiting_queue_is_served_when_permits_keep_coming_back(rounds in 10_usize..60) {
        let permits = Permits::new(4, 8, &[]);
        let mut seats: Vec<Seat> = ["a", "b", "c"].iter().map(|q| permits.seat(&queue(q), 1)).collect();
        let mut served = [0; 3];
        for _ in 0..rounds {
            for (seat, served) in seats.iter_mut().zip(&mut served) {
                *served += seat.acquire(4);
            }
            for seat in &mut seats {
                seat.release(1);
            }
        }
        prop_assert!(served.iter().all(|s| *s >= rounds / 8), "{served:?}");
    }
}

#[test]
fn a_thread_that_is_given_up_on_keeps_nothing() {
    let permits = Permits::new(4, 8, &[]);
    let (mut stuck, mut other) = (permits.seat(&queue("a"), 1), permits.seat(&queue("b"), 2));
    assert_eq!(acquire_all(&mut stuck, 4), 4);
    assert_eq!(stuck.reserve(8), 8);
    assert_eq!(other.acquire(1), 0);
    permits.write_off(1);
    permits.write_off(1);
    assert_eq!(permits.totals(), (4, 4));
    assert_eq!((acquire_all(&mut other, 4), other.reserve(8)), (4, 8));
    assert_eq!((stuck.acquire(1), stuck.reserve(1)), (0, 0));
    stuck.release(4);
    drop(stuck);
    drop(other);
    assert_eq!(permits.totals(), (4, 4));
}

#[test]
fn nobody_waits_for_the_seat_of_a_blocked_thread() {
    let permits = Permits::new(2, 2, &[]);
    let mut busy = permits.seat(&queue("a"), 1);
    let (mut stuck, mut other) = (permits.seat(&queue("b"), 2), permits.seat(&queue("c"), 1));
    assert_eq!(acquire_all(&mut busy, 2), 2);
    assert_eq!((stuck.acquire(1), other.acquire(1)), (0, 0));
    permits.step_aside(2);
    busy.release(1);
    assert!(other.available().now_or_never().is_some());
    assert_eq!(other.acquire(1), 1);
    assert!(
        stuck.available().now_or_never().is_some(),
        "it tries again by itself"
    );
}

#[test]
fn a_queue_has_room_while_it_can_claim_a_permit() {
    let permits = Permits::new(4, 8, &[]);
    let (mut a, b) = (permits.seat(&queue("a"), 1), permits.seat(&queue("b"), 1));
    assert!(permits.has_room(&queue("a")) && permits.has_room(&queue("b")));
    assert_eq!(acquire_all(&mut a, 4), 4);
    assert!(!permits.has_room(&queue("a")), "it has everything");
    assert!(permits.has_room(&queue("b")), "its share is due to it");
    assert!(permits.freed().now_or_never().is_none());
    a.release(1);
    assert!(permits.freed().now_or_never().is_some());
    assert!(permits.has_room(&queue("a")));
    drop(b);
}
