//! Revival, discard and purge: each from the right status only, each repeatable.

use celeriac_actors::ids::BurialId;
use celeriac_actors::ports::{DeadFilter, DeadLetters as _, DeadStatus, StoreError};
use celeriac_actors::time::Timestamp;

use crate::store_support::{Bed, all, id, letter, on_both, queue};

on_both!(
    a_revival_is_begun_once_and_finished_by_whoever_finds_it,
    a_letter_is_revived_by_one_of_many,
    only_new_letters_are_discarded,
    a_purge_is_bounded_and_spares_revivals,
    a_purge_takes_what_its_filter_means,
    edited_bytes_are_decided_once_and_kept_beside_the_others,
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
