-- Reads a shared value.
--
-- KEYS  hash of the value
-- Reply version and value, nil when there is none
local kept = call('HMGET', KEYS[1], 'version', 'value', 'until')
if not kept[3] or tonumber(kept[3]) <= now then return false end
return { tonumber(kept[1]), kept[2] }
