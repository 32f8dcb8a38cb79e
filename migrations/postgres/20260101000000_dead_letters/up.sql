-- Dead letters. Means the same as its namesake for SQLite; differences are said here.
-- Text keys are compared byte by byte ("C"): the same order on every server, and cheap.
CREATE TABLE dead_letters (
    id BYTEA NOT NULL PRIMARY KEY,
    queue TEXT COLLATE "C" NOT NULL,
    task TEXT COLLATE "C",
    reason TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
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
    frame BYTEA NOT NULL
);

CREATE INDEX dead_letters_by_time ON dead_letters (buried_at, id, queue, task, reason, status);
CREATE INDEX dead_letters_by_queue ON dead_letters (queue, buried_at, id, task, reason, status);
CREATE INDEX dead_letters_by_task ON dead_letters (task, buried_at, id, queue, reason, status);
CREATE INDEX dead_letters_by_reason ON dead_letters (reason, buried_at, id, queue, task, status);
CREATE INDEX dead_letters_by_status ON dead_letters (status, buried_at, id, queue, task, reason);

CREATE TABLE dead_stats (
    span BIGINT NOT NULL,
    bucket BIGINT NOT NULL,
    queue TEXT COLLATE "C" NOT NULL,
    task TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (span, bucket, queue, task, reason, status)
);

-- Counting is per statement, not per row: a batch of a thousand costs a handful of upserts. Each statement touches the
-- days first, in the order of their key, and whoever shares an hour shares its day: so two batches at once wait for
-- each other at days only and cannot lock each other out.
CREATE FUNCTION dead_letters_counted() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dead_stats AS s (span, bucket, queue, task, reason, status, count)
    SELECT span, buried_at / span, queue, COALESCE(task, '?'), reason, status, COUNT(*)
    FROM fresh
    CROSS JOIN (VALUES (86400000::BIGINT), (3600000)) AS spans (span)
    GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1 DESC, 2, 3, 4, 5, 6
    ON CONFLICT (span, bucket, queue, task, reason, status)
    DO UPDATE SET count = s.count + EXCLUDED.count;
    RETURN NULL;
END $$;

CREATE FUNCTION dead_letters_uncounted() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dead_stats AS s (span, bucket, queue, task, reason, status, count)
    SELECT span, buried_at / span, queue, COALESCE(task, '?'), reason, status, -COUNT(*)
    FROM stale
    CROSS JOIN (VALUES (86400000::BIGINT), (3600000)) AS spans (span)
    GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1 DESC, 2, 3, 4, 5, 6
    ON CONFLICT (span, bucket, queue, task, reason, status)
    DO UPDATE SET count = s.count + EXCLUDED.count;
    RETURN NULL;
END $$;

CREATE FUNCTION dead_letters_recounted() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dead_stats AS s (span, bucket, queue, task, reason, status, count)
    SELECT span, buried_at / span, queue, COALESCE(task, '?'), reason, status, SUM(step)::BIGINT
    FROM (
        SELECT buried_at, queue, task, reason, status, 1 AS step FROM fresh
        UNION ALL
        SELECT buried_at, queue, task, reason, status, -1 AS step FROM stale
    ) AS steps
    CROSS JOIN (VALUES (86400000::BIGINT), (3600000)) AS spans (span)
    GROUP BY 1, 2, 3, 4, 5, 6 HAVING SUM(step) <> 0 ORDER BY 1 DESC, 2, 3, 4, 5, 6
    ON CONFLICT (span, bucket, queue, task, reason, status)
    DO UPDATE SET count = s.count + EXCLUDED.count;
    RETURN NULL;
END $$;

CREATE TRIGGER dead_letters_counted AFTER INSERT ON dead_letters
    REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION dead_letters_counted();
CREATE TRIGGER dead_letters_uncounted AFTER DELETE ON dead_letters
    REFERENCING OLD TABLE AS stale
    FOR EACH STATEMENT EXECUTE FUNCTION dead_letters_uncounted();
CREATE TRIGGER dead_letters_recounted AFTER UPDATE ON dead_letters
    REFERENCING NEW TABLE AS fresh OLD TABLE AS stale
    FOR EACH STATEMENT EXECUTE FUNCTION dead_letters_recounted();
