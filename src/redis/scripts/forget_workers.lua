-- Forgets workers that have been silent for long.
--
-- KEYS  hash of the workers
-- ARGV  ms, most
-- Reply how many
local forgotten, all = 0, call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local seen = tonumber(string.match(all[i + 1], '^%d+'))
  if forgotten < tonumber(ARGV[2]) and (not seen or seen + ARGV[1] < now) then
    forgotten = forgotten + call('HDEL', KEYS[1], all[i])
  end
end
return forgotten
