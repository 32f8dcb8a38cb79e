//! Revival, discard and purge: each from the right status only, each repeatable.

use std::time::Duration;

use celeriac::store::LetterLine;
use celeriac_actors::ids::BurialId;
use celeriac_actors::ports::{DeadFilter, DeadLetter, DeadLetters as _, DeadStatus, StoreError};
use celeriac_actors::retention::{RetentionLimits, retain};
use celeriac_actors::time::Timestamp;

use crate::store_support::{Bed, all, id, letter, on_both, queue};

on_both!(
    a_revival_is_begun_once_and_finished_by_whoever_finds_it,
    a_letter_is_revived_by_one_of_many,
    only_new_letters_are_discarded,
    a_purge_is_bounded_and_spares_revivals,
    a_purge_takes_what_its_filter_means,
    edited_bytes_are_decided_once_and_kept_beside_the_others,
    a_trim_keeps_the_newest_also_beside_others,
    retention_takes_what_is_too_old_and_too_much,
    letters_survive_their_way_through_lines,
);

/// Goal: a crash between the two halves of a revival loses nothing and revives nothing twice.
/// Method: begin, drop the store, open it again, find the letter by its status, finish.
async fn a_revival_is_begun_once_and_finished_by_whoever_finds_it(bed: Bed) {
    let store = bed.migrated().await;
    store
        .insert((0..3).map(|n| letter(n, 10)).collect())
        .await
        .unwrap();
    let begun = store.begin_revival(id(1), None).await.unwrap();
    assert_eq!((begun.status, begun.revivals), (DeadStatus::Reviving, 1));
    drop(store);

    let store = bed.migrated().await;
    let unfinished = DeadFilter {
        status: Some(DeadStatus::Reviving),
        until: Some(Timestamp::from_millis(11)),
        ..DeadFilter::default()
    };
    assert_eq!(
        all(&store, &unfinished, 10).await,
        std::slice::from_ref(&begun)
    );
    assert_eq!(store.begin_revival(id(1), None).await, Ok(begun));
    assert_eq!(store.finish_revival(&[id(0), id(1), id(99)]).await, Ok(1));
    assert_eq!(store.finish_revival(&[id(1)]).await, Ok(0));

    let status = DeadStatus::Revived;
    assert_eq!(
        store.begin_revival(id(1), None).await,
        Err(StoreError::Status { id: id(1), status })
    );
    assert_eq!(
        store.begin_revival(id(99), None).await,
        Err(StoreError::Missing(id(99)))
    );
    assert_eq!(store.show(id(0)).await.unwrap().status, DeadStatus::New);
}

async fn a_letter_is_revived_by_one_of_many(bed: Bed) {
    let store = std::sync::Arc::new(bed.migrated().await);
    store.insert(vec![letter(1, 10)]).await.unwrap();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let store = std::sync::Arc::clone(&store);
        callers.spawn(async move { store.begin_revival(id(1), None).await.unwrap().revivals });
    }
    assert_eq!(callers.join_all().await, [1; 16]);
}

async fn only_new_letters_are_discarded(bed: Bed) {
    let store = bed.migrated().await;
    store
        .insert((0..1_200).map(|n| letter(n, 10)).collect())
        .await
        .unwrap();
    store.begin_revival(id(1), None).await.unwrap();
    let ids: Vec<BurialId> = (0..1_200).map(id).collect();
    assert_eq!(store.discard(&ids).await, Ok(1_199));
    assert_eq!(store.discard(&ids).await, Ok(0));
    assert_eq!(
        store.show(id(1)).await.unwrap().status,
        DeadStatus::Reviving
    );
    let refused = store.begin_revival(id(2), None).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!("dead letter {} is discarded", id(2))
    );
}

async fn a_purge_is_bounded_and_spares_revivals(bed: Bed) {
    let store = bed.migrated().await;
    store
        .insert((0..1_500).map(|n| letter(n, n)).collect())
        .await
        .unwrap();
    store.begin_revival(id(5), None).await.unwrap();
    let everything = DeadFilter::default();
    assert_eq!(store.purge(&everything, 0).await, Ok(0));
    assert_eq!(store.purge(&everything, 700).await, Ok(700));
    // The oldest went first.
    assert_eq!(store.show(id(700)).await, Err(StoreError::Missing(id(700))));
    assert!(store.show(id(701)).await.is_ok());
    assert_eq!(store.purge(&everything, u32::MAX).await, Ok(799));
    assert_eq!(all(&store, &everything, 100).await.len(), 1);
    let reviving = DeadFilter {
        status: Some(DeadStatus::Reviving),
        ..everything
    };
    assert_eq!(store.purge(&reviving, 10).await, Ok(0));
    let by_id = DeadFilter {
        id: Some(id(5).task),
        ..DeadFilter::default()
    };
    assert_eq!(store.purge(&by_id, 10).await, Ok(0));
}

async fn a_purge_takes_what_its_filter_means(bed: Bed) {
    let store = bed.migrated().await;
    store
        .insert((0..90).map(|n| letter(n, n)).collect())
        .await
        .unwrap();
    let billing = DeadFilter {
        queue: Some(queue("billing")),
        until: Some(Timestamp::from_millis(30)),
        ..DeadFilter::default()
    };
    assert_eq!(store.purge(&billing, 1_000).await, Ok(10));
    let one_task = DeadFilter {
        id: Some(id(50).task),
        ..DeadFilter::default()
    };
    assert_eq!(store.purge(&one_task, 1).await, Ok(1));
    assert_eq!(store.purge(&one_task, 5).await, Ok(1));
    assert_eq!(store.stats(&DeadFilter::default()).await.unwrap().total, 78);
}

/// Goal: the bytes that a revival sends are those of whoever began it, for everybody who finishes it.
async fn edited_bytes_are_decided_once_and_kept_beside_the_others(bed: Bed) {
    let store = bed.migrated().await;
    let letters = vec![letter(1, 5), letter(2, 6)];
    store.insert(letters.clone()).await.unwrap();
    let edited = [0, 0xff, 7];
    let begun = store.begin_revival(id(1), Some(&edited)).await.unwrap();
    assert_eq!(begun.edited.as_deref(), Some(&edited[..]));
    assert_eq!(begun.frame, letters[0].frame);
    let other = store.begin_revival(id(1), Some(&[9])).await;
    assert_eq!(other, Ok(begun.clone()));
    assert_eq!(store.begin_revival(id(1), None).await, Ok(begun.clone()));
    store.finish_revival(&[id(1)]).await.unwrap();
    let revived = store.show(id(1)).await.unwrap();
    assert_eq!(revived.edited, begun.edited);
    assert_eq!(store.begin_revival(id(2), None).await.unwrap().edited, None);
}

/// Goal: processes that trim at once delete no more than one alone, and never what is being revived.
/// Method: four stores with pools of their own trim the same letters in small steps.
async fn a_trim_keeps_the_newest_also_beside_others(bed: Bed) {
    let store = bed.migrated().await;
    store
        .insert((0..200).map(|n| letter(n, n * 10)).collect())
        .await
        .unwrap();
    store.begin_revival(id(3), None).await.unwrap();
    assert_eq!(store.trim(200, 50).await, Ok(0));
    assert_eq!(store.trim(190, 3).await, Ok(3));
    let mut processes = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = bed.migrated().await;
        processes.spawn(async move {
            let mut gone = 0;
            loop {
                match store.trim(50, 7).await.unwrap() {
                    0 => return gone,
                    step => gone += step,
                }
            }
        });
    }
    assert_eq!(processes.join_all().await.into_iter().sum::<u64>(), 147);
    let left = all(&store, &DeadFilter::default(), 100).await;
    let numbers: Vec<u64> = left.iter().rev().map(|l| l.id.number).collect();
    let expected: Vec<u64> = std::iter::once(3).chain(151..200).collect();
    assert_eq!(numbers, expected);
    assert_eq!(store.trim(0, 1_000).await, Ok(49));
    assert_eq!(store.trim(0, 1_000).await, Ok(0));
}

async fn retention_takes_what_is_too_old_and_too_much(bed: Bed) {
    let store = bed.migrated().await;
    store
        .insert((0..40).map(|n| letter(n, 1_000 + n)).collect())
        .await
        .unwrap();
    let limits = RetentionLimits {
        max_age: Some(Duration::from_millis(30)),
        max_count: Some(5),
    };
    let now = Timestamp::from_millis(1_040);
    let mut steps = Vec::new();
    loop {
        let removed = retain(&store, now, &limits, 8).await.unwrap();
        steps.push((removed.by_age, removed.by_count));
        if !removed.more {
            break;
        }
    }
    assert_eq!(steps, [(8, 0), (2, 6), (0, 8), (0, 8), (0, 3)]);
    assert_eq!(all(&store, &DeadFilter::default(), 100).await.len(), 5);
    let again = retain(&store, now, &limits, 8).await.unwrap();
    assert_eq!(again.total(), 0);
}

/// Goal: export and import lose nothing, whatever the bytes; what is there already stays as it is.
async fn letters_survive_their_way_through_lines(bed: Bed) {
    let store = bed.migrated().await;
    let hostile: Vec<u8> = (0..=255).chain([0, 0x0a, 0x0d, 0xff]).collect();
    let hostile = |number: u64| DeadLetter {
        frame: hostile.clone(),
        worker: "\u{1b}[2J\r\n\u{2028}\u{feff}\"\\".to_owned(),
        args: Some("{\"n\": 1.00, \"n\": 18446744073709551616}".to_owned()),
        ..letter(number, 1_000 + number)
    };
    store.insert((0..20).map(hostile).collect()).await.unwrap();
    store.begin_revival(id(1), Some(&[0, 0xff])).await.unwrap();
    store.finish_revival(&[id(1)]).await.unwrap();
    store.begin_revival(id(2), None).await.unwrap();
    store.discard(&[id(3)]).await.unwrap();
    let before = all(&store, &DeadFilter::default(), 100).await;
    let lines: Vec<String> = before
        .iter()
        .map(|letter| serde_json::to_string(&LetterLine::from(letter)).unwrap())
        .collect();

    let parsed = || {
        let read = lines.iter().map(|line| LetterLine::parse(line.as_bytes()));
        read.map(|letter| letter.unwrap().unwrap())
            .collect::<Vec<_>>()
    };
    store.discard(&[id(4)]).await.unwrap();
    assert_eq!(store.insert(parsed()).await, Ok(0), "all are there");
    let kept = store.show(id(4)).await.unwrap();
    assert_eq!(kept.status, DeadStatus::Discarded, "left as it is");

    let other = Bed::sqlite();
    let other = other.migrated().await;
    assert_eq!(other.insert(parsed()).await, Ok(20));
    assert_eq!(all(&other, &DeadFilter::default(), 100).await, before);
}
