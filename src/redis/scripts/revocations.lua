-- Reads the revocations that are remembered.
--
-- KEYS  root of the queue
-- Reply the version, revocations by their keys: ids as hex, or rules
local rev = tonumber(call('HGET', root, 'rev') or 0)
return { rev, call('ZRANGE', root .. 'revoked', '(' .. string.format('%.0f', now), '+inf', 'BYSCORE') }
