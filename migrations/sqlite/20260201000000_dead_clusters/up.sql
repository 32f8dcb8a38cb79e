-- Clusters: letters that died of the same are counted together, per day of burial in UTC and over all time. `span` is the
-- length of a bucket in milliseconds; with the longest there is, every letter lies in bucket 0.
CREATE TABLE dead_clusters (
    span BIGINT NOT NULL,
    fingerprint TEXT NOT NULL,
    bucket BIGINT NOT NULL,
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    reason TEXT NOT NULL,
    status TEXT NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (span, fingerprint, bucket, queue, task, reason, status)
) WITHOUT ROWID;

-- Read once and grouped: no row is copied.
INSERT INTO dead_clusters (span, fingerprint, bucket, queue, task, reason, status, count)
SELECT 86400000, fingerprint, buried_at / 86400000, queue, COALESCE(task, '?'), reason, status, COUNT(*)
FROM dead_letters GROUP BY 1, 2, 3, 4, 5, 6, 7;
INSERT INTO dead_clusters (span, fingerprint, bucket, queue, task, reason, status, count)
SELECT 9223372036854775807, fingerprint, 0, queue, task, reason, status, SUM(count)
FROM dead_clusters GROUP BY 1, 2, 3, 4, 5, 6, 7;

CREATE INDEX dead_letters_by_fingerprint ON dead_letters
    (fingerprint, buried_at, id, queue, task, reason, status);
-- Answers also what died of what within a time.
DROP INDEX dead_letters_by_time;
CREATE INDEX dead_letters_by_time ON dead_letters
    (buried_at, id, queue, task, reason, status, fingerprint);

CREATE TRIGGER dead_letters_clustered AFTER INSERT ON dead_letters
BEGIN
    INSERT INTO dead_clusters (span, fingerprint, bucket, queue, task, reason, status, count)
    SELECT span, NEW.fingerprint, NEW.buried_at / span, NEW.queue, COALESCE(NEW.task, '?'), NEW.reason, NEW.status, 1
    FROM (SELECT 86400000 AS span UNION ALL SELECT 9223372036854775807)
    WHERE TRUE -- without it the parser takes ON for a join
    ON CONFLICT (span, fingerprint, bucket, queue, task, reason, status) DO UPDATE SET count = count + 1;
END;

CREATE TRIGGER dead_letters_unclustered AFTER DELETE ON dead_letters
BEGIN
    UPDATE dead_clusters SET count = count - 1
    WHERE span IN (86400000, 9223372036854775807) AND fingerprint = OLD.fingerprint AND bucket = OLD.buried_at / span
        AND queue = OLD.queue AND task = COALESCE(OLD.task, '?') AND reason = OLD.reason AND status = OLD.status;
    DELETE FROM dead_clusters
    WHERE span IN (86400000, 9223372036854775807) AND fingerprint = OLD.fingerprint AND bucket = OLD.buried_at / span
        AND queue = OLD.queue AND task = COALESCE(OLD.task, '?') AND reason = OLD.reason AND status = OLD.status
        AND count = 0;
END;

CREATE TRIGGER dead_letters_reclustered
AFTER UPDATE OF fingerprint, buried_at, queue, task, reason, status ON dead_letters
BEGIN
    INSERT INTO dead_clusters (span, fingerprint, bucket, queue, task, reason, status, count)
    SELECT span, NEW.fingerprint, NEW.buried_at / span, NEW.queue, COALESCE(NEW.task, '?'), NEW.reason, NEW.status, 1
    FROM (SELECT 86400000 AS span UNION ALL SELECT 9223372036854775807)
    WHERE TRUE -- without it the parser takes ON for a join
    ON CONFLICT (span, fingerprint, bucket, queue, task, reason, status) DO UPDATE SET count = count + 1;
    UPDATE dead_clusters SET count = count - 1
    WHERE span IN (86400000, 9223372036854775807) AND fingerprint = OLD.fingerprint AND bucket = OLD.buried_at / span
        AND queue = OLD.queue AND task = COALESCE(OLD.task, '?') AND reason = OLD.reason AND status = OLD.status;
    DELETE FROM dead_clusters
    WHERE span IN (86400000, 9223372036854775807) AND fingerprint = OLD.fingerprint AND bucket = OLD.buried_at / span
        AND queue = OLD.queue AND task = COALESCE(OLD.task, '?') AND reason = OLD.reason AND status = OLD.status
        AND count = 0;
END;
