-- Wakes somebody else if there are ready tasks.
--
-- KEYS  root of the queue
-- Reply OK
if count_ready() > 0 then ring_ready(1) end
return redis.status_reply('OK')
