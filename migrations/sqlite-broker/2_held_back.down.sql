ALTER TABLE incarnations DROP COLUMN held_times;
ALTER TABLE incarnations DROP COLUMN held_until;
