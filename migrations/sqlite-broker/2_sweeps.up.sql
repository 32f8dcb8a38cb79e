-- How many sweeps of a queue in a row found a gap before them.
ALTER TABLE queues ADD COLUMN sweep_gaps INTEGER NOT NULL DEFAULT 0;
