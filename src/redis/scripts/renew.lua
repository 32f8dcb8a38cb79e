-- Renews leases.
--
-- KEYS  root of the queue
-- ARGV  incarnations
-- Reply those that are gone
local gone = {}
for _, id in ipairs(ARGV) do
  local lease = call('HGET', root .. 'i:' .. id, 'lease')
  if lease and call('ZSCORE', root .. 'leases', id) then
    call('ZADD', root .. 'leases', now + lease, id)
  else
    gone[#gone + 1] = id
  end
end
return gone
