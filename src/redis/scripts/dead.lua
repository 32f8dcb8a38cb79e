-- Reads dead tasks, oldest burial first.
--
-- KEYS  root of the queue
-- ARGV  most
-- Reply members and numbers, flat
return call('ZRANGE', root .. 'dead', 0, ARGV[1] - 1, 'WITHSCORES')
