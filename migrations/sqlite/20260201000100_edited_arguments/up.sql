-- The frame that a revival sends instead of the letter's own, where somebody edited its arguments.
ALTER TABLE dead_letters ADD COLUMN edited BLOB;
