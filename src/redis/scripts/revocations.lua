-- Reads the revocations that are remembered.
--
-- KEYS  root of the queue
-- Reply the version, ids as hex
local rev = tonumber(call('HGET', root, 'rev') or 0)
return { rev, call('ZRANGE', root .. 'revoked', '(' .. string.format('%.0f', now), '+inf', 'BYSCORE') }
