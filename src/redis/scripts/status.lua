-- Reads a queue as it stands.
--
-- KEYS  root of the queue
-- Reply ready, scheduled, retrying, active, dead, paused (0 or 1), consumers, ms of the oldest that is first of its
--       priority (nil: none), counters (name, value: flat)
local ready, oldest = 0, math.huge
for level = 0, 9 do
  local list = root .. 'r' .. level
  local n = call('LLEN', list)
  if n > 0 then
    ready = ready + n
    local first = call('LINDEX', list, 0)
    local at = #first >= 40 and struct.unpack('>I8', first, 25)
    -- A producer's clock may say anything.
    if at and at < 2 ^ 53 then oldest = math.min(oldest, at) end
  end
end
local active = 0
for _, of in ipairs({ 'lives', 'orphans' }) do
  for _, id in ipairs(call('HKEYS', root .. of)) do active = active + call('HLEN', root .. 'f:' .. id) end
end
return {
  ready, call('ZCARD', root .. 'scheduled'), call('ZCARD', root .. 'retrying'), active, call('ZCARD', root .. 'dead'),
  call('HEXISTS', root, 'paused'), call('ZCARD', root .. 'leases'),
  oldest < math.huge and string.format('%.0f', oldest) or false, call('HGETALL', root .. 'counters'),
}
