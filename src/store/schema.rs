// @generated automatically by Diesel CLI.

diesel::table! {
    audit (id) {
        id -> BigInt,
        at -> BigInt,
        actor -> Text,
        action -> Text,
        target -> Text,
        detail -> Text,
    }
}

diesel::table! {
    dead_clusters (span, fingerprint, bucket, queue, task, reason, status) {
        span -> BigInt,
        fingerprint -> Text,
        bucket -> BigInt,
        queue -> Text,
        task -> Text,
        reason -> Text,
        status -> Text,
        count -> BigInt,
    }
}

diesel::table! {
    dead_letters (id) {
        id -> Binary,
        queue -> Text,
        task -> Nullable<Text>,
        reason -> Text,
        status -> Text,
        buried_at -> BigInt,
        enqueued_at -> Nullable<BigInt>,
        attempts -> Integer,
        deliveries -> Integer,
        revivals -> BigInt,
        fingerprint -> Text,
        worker -> Text,
        note -> Text,
        format -> Integer,
        headers -> Text,
        failures -> Text,
        args -> Nullable<Text>,
        frame -> Binary,
        edited -> Nullable<Binary>,
    }
}

diesel::table! {
    dead_stats (span, bucket, queue, task, reason, status) {
        span -> BigInt,
        bucket -> BigInt,
        queue -> Text,
        task -> Text,
        reason -> Text,
        status -> Text,
        count -> BigInt,
    }
}

diesel::table! {
    queue_snapshots (span, at, queue) {
        span -> BigInt,
        at -> BigInt,
        queue -> Text,
        ready -> BigInt,
        scheduled -> BigInt,
        retrying -> BigInt,
        active -> BigInt,
        dead_outbox -> BigInt,
        consumers -> BigInt,
        oldest_ms -> BigInt,
        paused -> Bool,
        enqueued -> BigInt,
        succeeded -> BigInt,
        dead -> BigInt,
        cancelled -> BigInt,
        expired -> BigInt,
        retried -> BigInt,
        released -> BigInt,
        rescued -> BigInt,
        revived -> BigInt,
        stale -> BigInt,
        result_dropped -> BigInt,
    }
}

diesel::table! {
    task_snapshots (span, at, queue, task, worker) {
        span -> BigInt,
        at -> BigInt,
        queue -> Text,
        task -> Text,
        worker -> Text,
        started -> BigInt,
        succeeded -> BigInt,
        failed -> BigInt,
        retried -> BigInt,
        buried -> BigInt,
        revoked -> BigInt,
        expired -> BigInt,
        released -> BigInt,
        wait_us -> BigInt,
        run_us -> BigInt,
        waits -> Text,
        runs -> Text,
    }
}

diesel::allow_tables_to_appear_in_same_query!(
    audit,
    dead_clusters,
    dead_letters,
    dead_stats,
    queue_snapshots,
    task_snapshots,
);
