-- Dead letters. The wide columns come last, so that a scan of the narrow ones reads no overflow pages.
-- id: the task's id (16 bytes), then the burial number (8 bytes, big-endian): byte order is id order.
-- Instants: milliseconds since 1970 in UTC. `format` versions the JSON columns.
CREATE TABLE dead_letters (
    id BLOB NOT NULL PRIMARY KEY,
    queue TEXT NOT NULL,
    task TEXT,
    reason TEXT NOT NULL,
    status TEXT NOT NULL,
    buried_at BIGINT NOT NULL,
    enqueued_at BIGINT,
    attempts INTEGER NOT NULL,
    deliveries INTEGER NOT NULL,
    revivals BIGINT NOT NULL,
    fingerprint TEXT NOT NULL,
    worker TEXT NOT NULL,
    note TEXT NOT NULL,
    format INTEGER NOT NULL,
    headers TEXT NOT NULL,
    failures TEXT NOT NULL,
    args TEXT,
    frame BLOB NOT NULL
);

-- One index per filter in the order of a page. The trailing columns answer the other filters from the index alone, so
-- that a rare combination never reads the rows it rejects.
CREATE INDEX dead_letters_by_time ON dead_letters (buried_at, id, queue, task, reason, status);
CREATE INDEX dead_letters_by_queue ON dead_letters (queue, buried_at, id, task, reason, status);
CREATE INDEX dead_letters_by_task ON dead_letters (task, buried_at, id, queue, reason, status);
CREATE INDEX dead_letters_by_reason ON dead_letters (reason, buried_at, id, queue, task, status);
CREATE INDEX dead_letters_by_status ON dead_letters (status, buried_at, id, queue, task, reason);

-- Counts per day and per hour of burial in UTC, kept by the triggers below in the transaction of the change. `span` is
-- the length of a bucket in milliseconds, `bucket` its number since 1970.
CREATE TABLE dead_stats (
    span BIGINT NOT NULL,
    bucket BIGINT NOT NULL,
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    reason TEXT NOT NULL,
    status TEXT NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (span, bucket, queue, task, reason, status)
) WITHOUT ROWID;

CREATE TRIGGER dead_letters_counted AFTER INSERT ON dead_letters
BEGIN
    INSERT INTO dead_stats (span, bucket, queue, task, reason, status, count)
    SELECT span, NEW.buried_at / span, NEW.queue, COALESCE(NEW.task, '?'), NEW.reason, NEW.status, 1
    FROM (SELECT 86400000 AS span UNION ALL SELECT 3600000)
    WHERE TRUE -- without it the parser takes ON for a join
    ON CONFLICT (span, bucket, queue, task, reason, status) DO UPDATE SET count = count + 1;
END;

CREATE TRIGGER dead_letters_uncounted AFTER DELETE ON dead_letters
BEGIN
    UPDATE dead_stats SET count = count - 1
    WHERE span IN (86400000, 3600000) AND bucket = OLD.buried_at / span AND queue = OLD.queue
        AND task = COALESCE(OLD.task, '?') AND reason = OLD.reason AND status = OLD.status;
    DELETE FROM dead_stats
    WHERE span IN (86400000, 3600000) AND bucket = OLD.buried_at / span AND queue = OLD.queue
        AND task = COALESCE(OLD.task, '?') AND reason = OLD.reason AND status = OLD.status AND count = 0;
END;

CREATE TRIGGER dead_letters_recounted
AFTER UPDATE OF buried_at, queue, task, reason, status ON dead_letters
BEGIN
    INSERT INTO dead_stats (span, bucket, queue, task, reason, status, count)
    SELECT span, NEW.buried_at / span, NEW.queue, COALESCE(NEW.task, '?'), NEW.reason, NEW.status, 1
    FROM (SELECT 86400000 AS span UNION ALL SELECT 3600000)
    WHERE TRUE -- without it the parser takes ON for a join
    ON CONFLICT (span, bucket, queue, task, reason, status) DO UPDATE SET count = count + 1;
    UPDATE dead_stats SET count = count - 1
    WHERE span IN (86400000, 3600000) AND bucket = OLD.buried_at / span AND queue = OLD.queue
        AND task = COALESCE(OLD.task, '?') AND reason = OLD.reason AND status = OLD.status;
    DELETE FROM dead_stats
    WHERE span IN (86400000, 3600000) AND bucket = OLD.buried_at / span AND queue = OLD.queue
        AND task = COALESCE(OLD.task, '?') AND reason = OLD.reason AND status = OLD.status AND count = 0;
END;
