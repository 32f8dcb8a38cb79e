-- Wakes somebody else if there are ready tasks.
--
-- KEYS  root of the queue
-- Reply OK
if some_ready(call('HGET', root, 'levels') or '') then ring_ready() end
return redis.status_reply('OK')
