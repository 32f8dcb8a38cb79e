-- Writes the start mark of a suspect.
--
-- KEYS  root of the queue
-- ARGV  incarnation, tag
-- Reply 1 if the delivery was held, 0 if not. Error GONE: closed or never opened.
local id, tag = ARGV[1], ARGV[2]
if call('EXISTS', root .. 'i:' .. id) == 0 then return redis.error_reply('GONE closed') end
if call('HEXISTS', root .. 'f:' .. id, tag) == 0 then return 0 end
-- One suspect runs at a time: the marks of those that have ended go now, so that they do not pile up.
for _, other in ipairs(call('SMEMBERS', root .. 'm:' .. id)) do
  if call('HEXISTS', root .. 'f:' .. id, other) == 0 then call('SREM', root .. 'm:' .. id, other) end
end
call('SADD', root .. 'm:' .. id, tag)
return 1
