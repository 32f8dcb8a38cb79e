-- Has the registry know a queue.
--
-- KEYS  set of all queues
-- ARGV  queue
-- Reply 1 if it is new, 0 if not
return call('SADD', KEYS[1], ARGV[1])
