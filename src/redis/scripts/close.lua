-- Closes an incarnation of one's own and releases what it holds, at most `most` at a time; called again, it goes on.
--
-- KEYS  root of the queue
-- ARGV  incarnation, most, ms for which the identity is remembered as closed
-- Reply how many went back, whether there is more (0 or 1)
local id = ARGV[1]
local worker = call('HGET', root .. 'i:' .. id, 'worker')
if worker then close(id, 'released', worker, ARGV[3]) end
local orphan = call('HGET', root .. 'orphans', id)
if not orphan then
  call('ZADD', root .. 'closed', 'NX', now + ARGV[3], id)
  return { 0, 0 }
end
local how, whose = string.match(orphan, '^(%S+) (.*)$')
if how ~= 'released' then return { 0, 0 } end
local ready, buried = move(id, how, whose, tonumber(ARGV[2]))
if ready > 0 then ring_ready(ready) end
return { ready + buried, call('HEXISTS', root .. 'orphans', id) }
