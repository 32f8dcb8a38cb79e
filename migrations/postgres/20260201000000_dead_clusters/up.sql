-- Clusters. Means the same as its namesake for SQLite; differences are said here.
ALTER TABLE dead_letters ALTER COLUMN fingerprint TYPE TEXT COLLATE "C";

CREATE TABLE dead_clusters (
    span BIGINT NOT NULL,
    fingerprint TEXT COLLATE "C" NOT NULL,
    bucket BIGINT NOT NULL,
    queue TEXT COLLATE "C" NOT NULL,
    task TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (span, fingerprint, bucket, queue, task, reason, status)
);

INSERT INTO dead_clusters (span, fingerprint, bucket, queue, task, reason, status, count)
SELECT 86400000, fingerprint, buried_at / 86400000, queue, COALESCE(task, '?'), reason, status, COUNT(*)
FROM dead_letters GROUP BY 1, 2, 3, 4, 5, 6, 7;
INSERT INTO dead_clusters (span, fingerprint, bucket, queue, task, reason, status, count)
SELECT 9223372036854775807, fingerprint, 0, queue, task, reason, status, SUM(count)::BIGINT
FROM dead_clusters GROUP BY 1, 2, 3, 4, 5, 6, 7;

CREATE INDEX dead_letters_by_fingerprint ON dead_letters
    (fingerprint, buried_at, id, queue, task, reason, status);
DROP INDEX dead_letters_by_time;
CREATE INDEX dead_letters_by_time ON dead_letters
    (buried_at, id, queue, task, reason, status, fingerprint);

-- Counting is per statement. Fingerprints come and go, so counts that reach zero are deleted; whoever writes holds the
-- writers' lock, so nobody is about to raise one of them.
CREATE FUNCTION dead_letters_clustered() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dead_clusters AS c (span, fingerprint, bucket, queue, task, reason, status, count)
    SELECT span, fingerprint, buried_at / span, queue, COALESCE(task, '?'), reason, status, COUNT(*)
    FROM fresh
    CROSS JOIN (VALUES (86400000::BIGINT), (9223372036854775807)) AS spans (span)
    GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 1, 2, 3, 4, 5, 6, 7
    ON CONFLICT (span, fingerprint, bucket, queue, task, reason, status)
    DO UPDATE SET count = c.count + EXCLUDED.count;
    RETURN NULL;
END $$;

CREATE FUNCTION dead_letters_unclustered() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dead_clusters AS c (span, fingerprint, bucket, queue, task, reason, status, count)
    SELECT span, fingerprint, buried_at / span, queue, COALESCE(task, '?'), reason, status, -COUNT(*)
    FROM stale
    CROSS JOIN (VALUES (86400000::BIGINT), (9223372036854775807)) AS spans (span)
    GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 1, 2, 3, 4, 5, 6, 7
    ON CONFLICT (span, fingerprint, bucket, queue, task, reason, status)
    DO UPDATE SET count = c.count + EXCLUDED.count;
    DELETE FROM dead_clusters AS c
    USING (
        SELECT DISTINCT span, fingerprint, buried_at / span AS bucket
        FROM stale
        CROSS JOIN (VALUES (86400000::BIGINT), (9223372036854775807)) AS spans (span)
    ) AS k
    WHERE c.span = k.span AND c.fingerprint = k.fingerprint AND c.bucket = k.bucket AND c.count = 0;
    RETURN NULL;
END $$;

CREATE FUNCTION dead_letters_reclustered() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dead_clusters AS c (span, fingerprint, bucket, queue, task, reason, status, count)
    SELECT span, fingerprint, buried_at / span, queue, COALESCE(task, '?'), reason, status, SUM(step)::BIGINT
    FROM (
        SELECT fingerprint, buried_at, queue, task, reason, status, 1 AS step FROM fresh
        UNION ALL
        SELECT fingerprint, buried_at, queue, task, reason, status, -1 AS step FROM stale
    ) AS steps
    CROSS JOIN (VALUES (86400000::BIGINT), (9223372036854775807)) AS spans (span)
    GROUP BY 1, 2, 3, 4, 5, 6, 7 HAVING SUM(step) <> 0 ORDER BY 1, 2, 3, 4, 5, 6, 7
    ON CONFLICT (span, fingerprint, bucket, queue, task, reason, status)
    DO UPDATE SET count = c.count + EXCLUDED.count;
    DELETE FROM dead_clusters AS c
    USING (
        SELECT DISTINCT span, fingerprint, buried_at / span AS bucket
        FROM stale
        CROSS JOIN (VALUES (86400000::BIGINT), (9223372036854775807)) AS spans (span)
    ) AS k
    WHERE c.span = k.span AND c.fingerprint = k.fingerprint AND c.bucket = k.bucket AND c.count = 0;
    RETURN NULL;
END $$;

CREATE TRIGGER dead_letters_clustered AFTER INSERT ON dead_letters
    REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION dead_letters_clustered();
CREATE TRIGGER dead_letters_unclustered AFTER DELETE ON dead_letters
    REFERENCING OLD TABLE AS stale
    FOR EACH STATEMENT EXECUTE FUNCTION dead_letters_unclustered();
CREATE TRIGGER dead_letters_reclustered AFTER UPDATE ON dead_letters
    REFERENCING NEW TABLE AS fresh OLD TABLE AS stale
    FOR EACH STATEMENT EXECUTE FUNCTION dead_letters_reclustered();
