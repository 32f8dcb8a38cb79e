DROP TABLE queue_snapshots;
DROP TABLE task_snapshots;

-- The state of each queue at an instant (milliseconds since 1970), with the broker's running counters.
CREATE TABLE queue_snapshots (
    at BIGINT NOT NULL,
    queue TEXT NOT NULL,
    ready BIGINT NOT NULL,
    scheduled BIGINT NOT NULL,
    retrying BIGINT NOT NULL,
    active BIGINT NOT NULL,
    dead_outbox BIGINT NOT NULL,
    consumers BIGINT NOT NULL,
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
    PRIMARY KEY (queue, at)
);
CREATE INDEX queue_snapshots_by_time ON queue_snapshots (at);

-- What one worker counted for each kind of task since its last snapshot.
CREATE TABLE task_snapshots (
    at BIGINT NOT NULL,
    task TEXT NOT NULL,
    worker TEXT NOT NULL,
    succeeded BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    elapsed_ms_total BIGINT NOT NULL,
    elapsed_ms_max BIGINT NOT NULL,
    PRIMARY KEY (task, at, worker)
);
CREATE INDEX task_snapshots_by_time ON task_snapshots (at);
