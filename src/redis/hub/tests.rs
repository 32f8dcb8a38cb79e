//! Which channels the server is told of, and who hears that they are confirmed.

use celeriac_actors::ports::Wake;

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
    let (channels, board) = (Arc::new(Channels::default()), Board::default());
    let first = listen(&channels, names(0..3)).await;
    let (new, old) = channels.changes();
    assert_eq!((sorted(new), old), (names(0..3), Vec::new()));
    assert_eq!(channels.changes(), (Vec::new(), Vec::new()), "it was told");
    channels.confirmed(&names(0..2), &board);
    assert!(!first.is_finished(), "one is not confirmed");
    channels.confirmed(&names(2..3), &board);
    let first = first.await.unwrap();

    // One that shares channels waits for the others only, and keeps what it shares.
    let second = listen(&channels, names(2..4)).await;
    assert_eq!(channels.changes().0, names(3..4));
    channels.confirmed(&names(3..4), &board);
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
    let (channels, board) = (Arc::new(Channels::default()), Board::default());
    let ear = listen(&channels, names(0..2)).await;
    assert_eq!(channels.changes().0.len(), 2);
    channels.confirmed(&names(0..1), &board);
    channels.broke(&board);
    assert_eq!(sorted(channels.changes().0), names(0..2));
    channels.confirmed(&names(1..2), &board);
    tokio::task::yield_now().await;
    assert!(!ear.is_finished(), "the first is to be confirmed again");
    channels.confirmed(&names(0..1), &board);
    drop(ear.await.unwrap());
}

/// Goal: who leaves before the confirmation, or gives up on it, leaves nothing behind.
#[tokio::test(start_paused = true)]
async fn who_leaves_early_leaves_nothing() {
    let (channels, board) = (Arc::new(Channels::default()), Board::default());
    let gone = listen(&channels, names(0..1)).await;
    assert_eq!(channels.changes().0, names(0..1));
    gone.abort();
    assert!(gone.await.is_err());
    channels.confirmed(&names(0..1), &board);
    assert_eq!(channels.changes(), (Vec::new(), names(0..1)));

    // Never confirmed, it listens after a while nevertheless.
    let ear = listen(&channels, names(5..6)).await.await.unwrap();
    drop(ear);
    let state = channels.lock();
    assert!(state.pending.is_empty() && state.awaited.is_empty() && state.ears.is_empty());
}

/// Goal: a revocation that was told before the subscription, or while the connection was broken, is read all the same.
#[tokio::test(start_paused = true)]
async fn who_subscribes_reads_what_was_said_before() {
    let (channels, board) = (Channels::default(), Arc::new(Board::default()));
    let (keys, queue) = (Keys::new("test"), QueueName::new("q").unwrap());
    let told = async |waiting: &crate::redis::board::Waiting| {
        let next = timeout(Duration::from_secs(60), waiting.next()).await;
        next.is_ok_and(|wakes| wakes == Ok(vec![Wake::Revoked(queue.clone())]))
    };
    let waiting = board.wait(std::slice::from_ref(&queue));
    channels.hear_news(&keys, std::slice::from_ref(&queue));
    for _ in 0..2 {
        let (new, _) = channels.changes();
        assert!(!told(&waiting).await, "it is subscribed to nothing yet");
        channels.confirmed(&new, &board);
        assert!(told(&waiting).await);
        channels.broke(&board);
        assert!(told(&waiting).await);
    }
}
