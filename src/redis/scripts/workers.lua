-- Reads the records of all workers.
--
-- KEYS  hash of the workers
-- Reply ms, then worker and record, flat
local all = call('HGETALL', KEYS[1])
table.insert(all, 1, string.format('%.0f', now))
return all
