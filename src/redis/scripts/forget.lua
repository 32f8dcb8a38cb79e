-- Forgets what is over: closed identities and revocations.
--
-- KEYS  root of the queue
-- ARGV  most of each
-- Reply how many
local forgotten, over = 0, string.format('%.0f', now)
for _, of in ipairs({ 'closed', 'revoked' }) do
  local some = call('ZRANGE', root .. of, '-inf', over, 'BYSCORE', 'LIMIT', 0, ARGV[1])
  if #some > 0 then forgotten = forgotten + call('ZREM', root .. of, unpack(some)) end
end
return forgotten
