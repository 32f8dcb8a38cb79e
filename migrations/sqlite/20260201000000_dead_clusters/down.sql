DROP TRIGGER dead_letters_clustered;
DROP TRIGGER dead_letters_unclustered;
DROP TRIGGER dead_letters_reclustered;
DROP TABLE dead_clusters;
DROP INDEX dead_letters_by_fingerprint;
DROP INDEX dead_letters_by_time;
CREATE INDEX dead_letters_by_time ON dead_letters (buried_at, id, queue, task, reason, status);
