-- Revokes tasks, and tells all who wait.
--
-- KEYS  root of the queue
-- ARGV  ms until which they are remembered, the most that may be remembered, revocations by their keys: ids as hex, or rules
-- Reply the version. Error TOOMANY: nothing was revoked.
local revoked = root .. 'revoked'
call('ZREMRANGEBYSCORE', revoked, '-inf', string.format('%.0f', now))
local new = 0
for i = 3, #ARGV do
  if not call('ZSCORE', revoked, ARGV[i]) then new = new + 1 end
end
if call('ZCARD', revoked) + new > tonumber(ARGV[2]) then
  return redis.error_reply('TOOMANY at most ' .. ARGV[2] .. ' revocations are remembered')
end
for i = 3, #ARGV do call('ZADD', revoked, 'GT', ARGV[1], ARGV[i]) end
local version = call('HINCRBY', root, 'rev', 1)
redis.pcall('PUBLISH', root .. 'news', 'revoked')
return version
