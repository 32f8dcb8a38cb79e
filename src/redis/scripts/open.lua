-- Opens an incarnation. Repeated, it renews the lease and changes nothing else.
--
-- KEYS  root of the queue
-- ARGV  incarnation, lease in ms, lane, proof of the process's life (may be empty), worker
-- Reply OK. Error GONE: this identity was closed before.
local id, lease = ARGV[1], ARGV[2]
local life = root .. 'i:' .. id
if call('ZSCORE', root .. 'closed', id) then return redis.error_reply('GONE closed') end
if call('EXISTS', life) == 0 then
  call('HSET', life, 'number', '0', 'lease', lease, 'worker', ARGV[5])
  call('HSET', root .. 'lives', id, lease .. ' ' .. ARGV[3] .. ' ' .. ARGV[4] .. ' ' .. ARGV[5])
end
call('ZADD', root .. 'leases', now + lease, id)
return redis.status_reply('OK')
