-- Ends one delivery from outside.
--
-- KEYS  root of the queue
-- ARGV  incarnation, an outcome (`settle.lua`)
-- Reply 1 if it was held, 0 if not (an incarnation that is gone included)
local id = ARGV[1]
local worker = call('HGET', root .. 'i:' .. id, 'worker')
if not worker or call('HEXISTS', root .. 'f:' .. id, ARGV[3]) == 0 then return 0 end
settle(root .. 'f:' .. id, worker, 2, {})
return 1
