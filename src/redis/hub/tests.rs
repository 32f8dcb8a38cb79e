//! Which channels the server is told of, and who hears that they are confirmed.

use super::*;

fn names(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("channel {number}")).collect()
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable_by_key(|name| (name.len(), name.clone()));
    names
}

async fn listen(channels: &Arc<Channels>, names: Vec<String>) -> tokio::task::JoinHandle<Ear> {
    let channels = Arc::clone(channels);
    let before = channels.lock().next;
    let listening = {
        let channels = Arc::clone(&channels);
        tokio::spawn(async move { channels.listen(names).await })
    };
    while channels.lock().next == before {
        tokio::task::yield_now().await;
    }
    listening
}

/// Goal: what the server is told is what changed, told once; nobody's channel is left out or kept.
#[tokio::test(start_paused = true)]
async fn only_what_changed_is_told() {
    let channels = Arc::new(Channels::default());
    let first = listen(&channels, names(0..3)).await;
    let (new, old) = channels.changes();
    assert_eq!((sorted(new), old), (names(0..3), Vec::new()));
    assert_eq!(channels.changes(), (Vec::new(), Vec::new()), "it was told");
    channels.confirmed(&names(0..2));
    assert!(!first.is_finished(), "one is not confirmed");
    channels.confirmed(&names(2..3));
    let first = first.await.unwrap();

    // One that shares channels waits for the others only, and keeps what it shares.
    let second = listen(&channels, names(2..4)).await;
    assert_eq!(channels.changes().0, names(3..4));
    channels.confirmed(&names(3..4));
    let second = second.await.unwrap();
    drop(first);
    assert_eq!(sorted(channels.changes().1), names(0..2));
    drop(second);
    assert_eq!(sorted(channels.changes().1), names(2..4));
    assert!(channels.is_idle());
}

/// Goal: what was confirmed on a connection that broke counts no more.
#[tokio::test(start_paused = true)]
async fn after_a_break_all_is_told_and_confirmed_again() {
    let channels = Arc::new(Channels::default());
    let ear = listen(&channels, names(0..2)).await;
    assert_eq!(channels.changes().0.len(), 2);
    channels.confirmed(&names(0..1));
    channels.broke(&Board::default());
    assert_eq!(sorted(channels.changes().0), names(0..2));
    channels.confirmed(&names(1..2));
    tokio::task::yield_now().await;
    assert!(!ear.is_finished(), "the first is to be confirmed again");
    channels.confirmed(&names(0..1));
    drop(ear.await.unwrap());
}

/// Goal: who leaves before the confirmation, or gives up on it, leaves nothing behind.
#[tokio::test(start_paused = true)]
async fn who_leaves_early_leaves_nothing() {
    let channels = Arc::new(Channels::default());
    let gone = listen(&channels, names(0..1)).await;
    assert_eq!(channels.changes().0, names(0..1));
    gone.abort();
    assert!(gone.await.is_err());
    channels.confirmed(&names(0..1));
    assert_eq!(channels.changes(), (Vec::new(), names(0..1)));

    // Never confirmed, it listens after a while nevertheless.
    let ear = listen(&channels, names(5..6)).await.await.unwrap();
    drop(ear);
    let state = channels.lock();
    assert!(state.pending.is_empty() && state.awaited.is_empty() && state.ears.is_empty());
}
