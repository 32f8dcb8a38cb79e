//! Clusters equal a naive grouping, whatever happened to the letters, wherever the range cuts and however pages are cut.

use celeriac::store::Store;
use celeriac_actors::fingerprint::Fingerprint;
use celeriac_actors::ports::{
    ClusterPage, DeadCluster, DeadFilter, DeadLetter, DeadLetters as _, StatusCounts,
};
use celeriac_actors::time::Timestamp;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use crate::store_stats::{any_filter, change, instant};
use crate::store_support::{Bed, all, expected, id, letter, on_both};

on_both!(
    clusters_equal_a_naive_grouping,
    clusters_are_counted_when_an_older_store_is_migrated,
    a_cluster_shows_its_size_its_span_and_its_last_letter,
);

/// Reads all pages.
async fn clusters(store: &Store, filter: &DeadFilter, limit: u32) -> Vec<DeadCluster> {
    let (mut clusters, mut after) = (Vec::new(), None);
    loop {
        let page = store.clusters(filter, after, limit).await.unwrap();
        assert!(page.clusters.len() <= limit as usize);
        clusters.extend(page.clusters);
        after = page.next;
        if after.is_none() {
            return clusters;
        }
    }
}

fn grouped(letters: &[DeadLetter], filter: &DeadFilter) -> Vec<DeadCluster> {
    ClusterPage::of(&expected(letters, filter), None, usize::MAX).clusters
}

/// Goal: the kept counts never drift from the rows, and no filter and no page loses or repeats a cluster.
/// Method: random letters, random changes, random filters and pages; after each round purge.
async fn clusters_equal_a_naive_grouping(bed: Bed) {
    let store = bed.migrated().await;
    let mut runner = TestRunner::deterministic();
    for round in 0..5_u64 {
        let times = proptest::collection::vec(instant(), 50);
        let times = times.new_tree(&mut runner).unwrap().current();
        let letters = times.iter().zip(round * 50..);
        let letters = letters.map(|(at, number)| letter(number, *at)).collect();
        store.insert(letters).await.unwrap();
        change(&store, round * 50, &mut runner).await;
        let listed = all(&store, &DeadFilter::default(), 1_000).await;
        for _ in 0..40 {
            let filter = any_filter().new_tree(&mut runner).unwrap().current();
            let limit = (1..9_u32).new_tree(&mut runner).unwrap().current();
            assert_eq!(
                clusters(&store, &filter, limit).await,
                grouped(&listed, &filter),
                "{filter:?} {limit}"
            );
        }
        let filter = any_filter().new_tree(&mut runner).unwrap().current();
        store.purge(&filter, 30).await.unwrap();
    }
    store.purge(&DeadFilter::default(), 1_000).await.unwrap();
    let left = all(&store, &DeadFilter::default(), 1_000).await;
    assert_eq!(
        clusters(&store, &DeadFilter::default(), 50).await,
        grouped(&left, &DeadFilter::default())
    );
}

async fn clusters_are_counted_when_an_older_store_is_migrated(bed: Bed) {
    let store = bed.migrated().await;
    let letters: Vec<_> = (0..90).map(|n| letter(n, n * 7_200_000)).collect();
    store.insert(letters.clone()).await.unwrap();
    while store.rollback_one().await.unwrap().unwrap() != "20260201000000_dead_clusters" {}
    store.migrate().await.unwrap();
    store.discard(&[id(3), id(4)]).await.unwrap();
    let listed = all(&store, &DeadFilter::default(), 1_000).await;
    for filter in [
        DeadFilter::default(),
        DeadFilter {
            since: Some(Timestamp::from_millis(100_000_000)),
            ..DeadFilter::default()
        },
    ] {
        assert_eq!(
            clusters(&store, &filter, 10).await,
            grouped(&listed, &filter)
        );
    }
}

async fn a_cluster_shows_its_size_its_span_and_its_last_letter(bed: Bed) {
    let store = bed.migrated().await;
    // One letter in 60 has the same queue, task and reason as the first.
    let same = |number: u64| DeadLetter {
        id: id(number),
        note: format!("no bank answered after {number}s"),
        ..letter(0, 1_000 + number)
    };
    let letters: Vec<_> = (10..13).map(same).chain([letter(1, 5)]).collect();
    store.insert(letters).await.unwrap();
    store.discard(&[id(10)]).await.unwrap();
    let found = clusters(&store, &DeadFilter::default(), 1).await;
    let largest = &found[0];
    assert_eq!((found.len(), largest.total), (2, 3));
    assert_eq!(
        largest.by_status,
        StatusCounts {
            new: 2,
            discarded: 1,
            ..StatusCounts::default()
        }
    );
    let at = Timestamp::from_millis;
    assert_eq!((largest.first_at, largest.last_at), (at(1_010), at(1_012)));
    assert_eq!(largest.sample, id(12));
    assert_eq!(largest.message, "no bank answered after 12s");

    let filter = DeadFilter {
        fingerprint: Some(largest.fingerprint),
        ..DeadFilter::default()
    };
    assert_eq!(Fingerprint::of(&same(12)), largest.fingerprint);
    assert_eq!(all(&store, &filter, 10).await.len(), 3);
    assert_eq!(store.stats(&filter).await.unwrap().total, 3);
    assert_eq!(store.purge(&filter, 2).await, Ok(2));
    assert_eq!(clusters(&store, &filter, 10).await[0].total, 1);
}
