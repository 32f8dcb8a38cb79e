ALTER TABLE queues DROP COLUMN sweep_gaps;
