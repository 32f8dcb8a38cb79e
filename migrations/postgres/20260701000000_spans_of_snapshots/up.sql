-- Snapshots have a span now: minutes, and the hours and days made of them. Nothing had written the tables before.
DROP TABLE queue_snapshots;
DROP TABLE task_snapshots;

-- A queue over a span: `span` is its length and `at` its beginning in milliseconds, since 1970 in UTC. Gauges are those
-- at the end of a minute, of a longer span the highest of its minutes; counters are what the broker had counted by its end.
CREATE TABLE queue_snapshots (
    span BIGINT NOT NULL,
    at BIGINT NOT NULL,
    queue TEXT NOT NULL,
    ready BIGINT NOT NULL,
    scheduled BIGINT NOT NULL,
    retrying BIGINT NOT NULL,
    active BIGINT NOT NULL,
    dead_outbox BIGINT NOT NULL,
    consumers BIGINT NOT NULL,
    oldest_ms BIGINT NOT NULL,
    paused BOOLEAN NOT NULL,
    enqueued BIGINT NOT NULL,
    succeeded BIGINT NOT NULL,
    dead BIGINT NOT NULL,
    cancelled BIGINT NOT NULL,
    expired BIGINT NOT NULL,
    retried BIGINT NOT NULL,
    released BIGINT NOT NULL,
    rescued BIGINT NOT NULL,
    revived BIGINT NOT NULL,
    stale BIGINT NOT NULL,
    result_dropped BIGINT NOT NULL,
    PRIMARY KEY (span, at, queue)
);

-- A kind of task over a span, as one worker counted it. `waits` and `runs` are histograms as JSON: counts by bucket.
CREATE TABLE task_snapshots (
    span BIGINT NOT NULL,
    at BIGINT NOT NULL,
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    worker TEXT NOT NULL,
    started BIGINT NOT NULL,
    succeeded BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    retried BIGINT NOT NULL,
    buried BIGINT NOT NULL,
    revoked BIGINT NOT NULL,
    expired BIGINT NOT NULL,
    released BIGINT NOT NULL,
    wait_us BIGINT NOT NULL,
    run_us BIGINT NOT NULL,
    waits TEXT NOT NULL,
    runs TEXT NOT NULL,
    PRIMARY KEY (span, at, queue, task, worker)
);
