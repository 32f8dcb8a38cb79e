-- Removes dead tasks.
--
-- KEYS  root of the queue
-- ARGV  number and id (16 bytes) of each burial
-- Reply how many were there
local dropped = 0
for i = 1, #ARGV, 2 do
  for _, member in ipairs(call('ZRANGE', root .. 'dead', ARGV[i], ARGV[i], 'BYSCORE')) do
    if string.sub(member, 1, 16) == ARGV[i + 1] then dropped = dropped + call('ZREM', root .. 'dead', member) end
  end
end
return dropped
