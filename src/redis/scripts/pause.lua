-- Pauses (1) or resumes (0) a queue; resuming rings for what came meanwhile.
--
-- KEYS  root of the queue
-- ARGV  1 or 0
-- Reply OK
if ARGV[1] == '1' then
  call('HSET', root, 'paused', '1')
  call('DEL', root .. 'wake')
else
  call('HDEL', root, 'paused')
  local ready = count_ready()
  if ready > 0 then ring_ready(ready) end
end
return redis.status_reply('OK')
