-- Renews leases.
--
-- KEYS  roots of queues
-- ARGV  per queue: how many incarnations, their ids
-- Reply per queue: those that are gone
local all, i = {}, 1
for q = 1, #KEYS do
  root = KEYS[q]
  local gone = {}
  for at = i + 1, i + ARGV[i] do
    local id = ARGV[at]
    local lease = call('HGET', root .. 'i:' .. id, 'lease')
    if lease and call('ZSCORE', root .. 'leases', id) then
      call('ZADD', root .. 'leases', now + lease, id)
    else
      gone[#gone + 1] = id
    end
  end
  i = i + 1 + ARGV[i]
  all[q] = gone
end
return all
