-- Until when a sweep that held back has let a lease run, and how often in a row that was done.
ALTER TABLE incarnations ADD COLUMN held_until INTEGER NOT NULL DEFAULT 0; -- ms since boot
ALTER TABLE incarnations ADD COLUMN held_times INTEGER NOT NULL DEFAULT 0;
