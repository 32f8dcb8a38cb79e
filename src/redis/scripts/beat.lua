-- Writes the record of a worker.
--
-- KEYS  hash of the workers
-- ARGV  worker, record
-- Reply OK
call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now) .. ' ' .. ARGV[2])
return redis.status_reply('OK')
