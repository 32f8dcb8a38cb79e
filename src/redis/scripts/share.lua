-- Writes a shared value if its version is still the expected one.
--
-- KEYS  hash of the value: version, value, until (ms). It outlives its value, so that versions never come back.
-- ARGV  expected version (0: none), value, ms to keep it, ms to remember its version after that
-- Reply the new version, nil when somebody else was faster
local kept = call('HMGET', KEYS[1], 'version', 'until')
local version = tonumber(kept[1] or 0)
local there = kept[2] and tonumber(kept[2]) > now
local expected = tonumber(ARGV[1])
if (there and expected ~= version) or (not there and expected ~= 0) then return false end
call('HSET', KEYS[1], 'version', version + 1, 'value', ARGV[2], 'until', string.format('%.0f', now + ARGV[3]))
call('PEXPIRE', KEYS[1], string.format('%.0f', ARGV[3] + ARGV[4]))
return version + 1
