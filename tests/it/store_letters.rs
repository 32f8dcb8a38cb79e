//! Dead letters go in once and come out as they went in, page by page.

use celeriac_actors::frame::FrameLimits;
use celeriac_actors::ids::BurialId;
use celeriac_actors::ids::WorkerId;
use celeriac_actors::lease::DeadTask;
use celeriac_actors::letters::letter_from;
use celeriac_actors::ports::{DeadFilter, DeadLetter, DeadLetters as _, DeadStatus, StoreError};
use celeriac_actors::state::DeadReason;
use celeriac_actors::time::Timestamp;

use crate::store_support::{Bed, all, expected, id, letter, on_both, queue, task};

on_both!(
    a_letter_comes_out_as_it_went_in,
    an_insert_is_idempotent,
    thousands_go_in_at_once,
    pages_are_complete_under_equal_times,
    every_filter_means_what_it_says,
    bytes_that_do_not_decode_are_kept,
    a_page_of_huge_letters_ends_early,
    the_audit_lists_newest_first,
);

async fn a_letter_comes_out_as_it_went_in(bed: Bed) {
    let store = bed.migrated().await;
    let letters: Vec<DeadLetter> = (0..40).map(|n| letter(n, 1_000_000 + n)).collect();
    assert_eq!(store.insert(letters.clone()).await, Ok(40));
    for letter in &letters {
        assert_eq!(store.show(letter.id).await.as_ref(), Ok(letter));
    }
    assert_eq!(store.show(id(99)).await, Err(StoreError::Missing(id(99))));

    // The ends of every range.
    let mut extreme = letter(0, u64::MAX);
    extreme.id.number = u64::MAX;
    (extreme.attempts, extreme.revivals) = (u16::MAX, u32::MAX);
    store.insert(vec![extreme.clone()]).await.unwrap();
    let last = Timestamp::from_millis(i64::MAX.unsigned_abs() / 86_400_000 * 86_400_000 - 1);
    (extreme.buried_at, extreme.enqueued_at) = (last, None);
    assert_eq!(store.show(extreme.id).await, Ok(extreme));
    assert_eq!(store.stats(&DeadFilter::default()).await.unwrap().total, 41);
}

async fn an_insert_is_idempotent(bed: Bed) {
    let store = bed.migrated().await;
    let first: Vec<_> = (0..10).map(|n| letter(n, 5_000)).collect();
    assert_eq!(store.insert(first.clone()).await, Ok(10));
    let mut again: Vec<_> = (0..15).map(|n| letter(n, 6_000)).collect();
    again.push(letter(14, 7_000));
    assert_eq!(store.insert(again).await, Ok(5));
    assert_eq!(store.show(id(3)).await.as_ref(), Ok(&first[3]));
    assert_eq!(store.insert(Vec::new()).await, Ok(0));
    assert_eq!(store.stats(&DeadFilter::default()).await.unwrap().total, 15);
}

async fn thousands_go_in_at_once(bed: Bed) {
    let store = bed.migrated().await;
    let letters: Vec<_> = (0..2_345).map(|n| letter(n, n * 1_000)).collect();
    assert_eq!(store.insert(letters.clone()).await, Ok(2_345));
    assert_eq!(
        all(&store, &DeadFilter::default(), 1_000).await.len(),
        2_345
    );
    assert_eq!(store.insert(letters).await, Ok(0));
}

async fn pages_are_complete_under_equal_times(bed: Bed) {
    let store = bed.migrated().await;
    let letters: Vec<_> = (0..100).map(|n| letter(n, 1_000 + n / 40)).collect();
    store.insert(letters.clone()).await.unwrap();
    let filter = DeadFilter::default();
    for limit in [1, 7, 50, 99, 100, 1_000] {
        assert_eq!(
            all(&store, &filter, limit).await,
            expected(&letters, &filter),
            "pages of {limit}"
        );
    }
    // A limit outside its range is clamped.
    assert_eq!(store.list(&filter, None, 0).await.unwrap().letters.len(), 1);
    let page = store.list(&filter, None, u32::MAX).await.unwrap();
    assert_eq!((page.letters.len(), page.next), (100, None));
}

async fn every_filter_means_what_it_says(bed: Bed) {
    let store = bed.migrated().await;
    let mut letters: Vec<_> = (0..120).map(|n| letter(n, 1_000 + n / 3)).collect();
    for (letter, status) in letters.iter_mut().zip(DeadStatus::ALL.into_iter().cycle()) {
        letter.status = status;
    }
    store.insert(letters.clone()).await.unwrap();
    let base = DeadFilter::default();
    let mut filters = vec![
        base.clone(),
        DeadFilter {
            queue: Some(queue("billing")),
            ..base.clone()
        },
        DeadFilter {
            queue: Some(queue("nothing")),
            ..base.clone()
        },
        DeadFilter {
            task: Some(task("demo.panic")),
            ..base.clone()
        },
        DeadFilter {
            since: Some(Timestamp::from_millis(1_020)),
            ..base.clone()
        },
        DeadFilter {
            until: Some(Timestamp::from_millis(1_020)),
            ..base.clone()
        },
        DeadFilter {
            id: Some(id(7).task),
            ..base.clone()
        },
        DeadFilter {
            id: Some(id(7).task),
            status: Some(DeadStatus::Revived),
            ..base.clone()
        },
    ];
    filters.extend(DeadReason::ALL.map(|reason| DeadFilter {
        reason: Some(reason),
        ..base.clone()
    }));
    filters.extend(DeadStatus::ALL.map(|status| DeadFilter {
        status: Some(status),
        ..base.clone()
    }));
    filters.extend(DeadStatus::ALL.map(|status| DeadFilter {
        queue: Some(queue("kyb")),
        task: Some(task("demo.fail")),
        status: Some(status),
        since: Some(Timestamp::from_millis(1_005)),
        until: Some(Timestamp::from_millis(1_030)),
        ..base.clone()
    }));
    for filter in filters {
        for limit in [1, 4, 1_000] {
            let listed = all(&store, &filter, limit).await;
            assert_eq!(listed, expected(&letters, &filter), "{filter:?}");
        }
    }
}

async fn bytes_that_do_not_decode_are_kept(bed: Bed) {
    let store = bed.migrated().await;
    for (number, frame) in [Vec::new(), b"{\"json\": 1}".to_vec(), vec![0xce; 5_000]]
        .into_iter()
        .enumerate()
    {
        let dead = DeadTask {
            burial: BurialId {
                task: id(0).task,
                number: number as u64,
            },
            queue: queue("default"),
            reason: DeadReason::Undecodable,
            note: String::new(),
            frame: frame.clone(),
            buried_at: Timestamp::from_millis(9),
            worker: WorkerId::new("w").unwrap(),
        };
        let letter = letter_from(&dead, &FrameLimits::default());
        assert_eq!(store.insert(vec![letter.clone()]).await, Ok(1));
        let shown = store.show(letter.id).await.unwrap();
        assert_eq!(shown, letter);
        assert_eq!(shown.frame, frame);
        assert!(!shown.note.is_empty());
    }
    assert_eq!(
        store.stats(&DeadFilter::default()).await.unwrap().by_task[0].key,
        "?"
    );
}

async fn a_page_of_huge_letters_ends_early(bed: Bed) {
    let store = bed.migrated().await;
    for number in 0..40 {
        let huge = DeadLetter {
            frame: vec![1; 1 << 20],
            ..letter(number, number)
        };
        store.insert(vec![huge]).await.unwrap();
    }
    let page = store
        .list(&DeadFilter::default(), None, 1_000)
        .await
        .unwrap();
    assert!((32..40).contains(&page.letters.len()));
    assert_eq!(all(&store, &DeadFilter::default(), 1_000).await.len(), 40);
}

async fn the_audit_lists_newest_first(bed: Bed) {
    let store = bed.migrated().await;
    for number in 0..5 {
        let entry = celeriac::store::AuditEntry {
            at: Timestamp::from_millis(number),
            actor: "cli".into(),
            action: "dead.purge".into(),
            target: format!("queue {number}"),
            detail: String::new(),
        };
        store.record(entry).await.unwrap();
    }
    let newest = store.audit(None, 2).await.unwrap();
    assert_eq!(newest[0].entry.target, "queue 4");
    let rest = store.audit(Some(newest[1].id), 100).await.unwrap();
    assert_eq!(rest.len(), 3);
    assert_eq!(rest[0].entry.at, Timestamp::from_millis(2));
}
