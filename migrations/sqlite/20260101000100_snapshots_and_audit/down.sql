DROP TABLE audit;
DROP TABLE task_snapshots;
DROP TABLE queue_snapshots;
