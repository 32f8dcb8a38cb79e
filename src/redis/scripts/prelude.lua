-- In front of every script. KEYS[1] is the root of a queue, `<namespace>:{<queue>}:`, itself a hash with what is small:
--   paused (1), sweep (ms of the last sweep), rev (version of the revocations), seq (numbers waiting tasks),
--   burial (number of the last burial), levels (the priorities that were ever used, highest first).
-- All other keys of a queue are its root and a suffix (`keys.rs` has the list), so they lie in one slot.
local call, root = redis.call, KEYS[1]

-- While a cluster moves a slot, keys of it that are not here fail in the middle of a script, whose writes would stay. Two
-- keys that are nowhere tell so before the first write.
local moving = redis.pcall('EXISTS', root .. '?a', root .. '?b')
if type(moving) == 'table' and moving.err then return redis.error_reply('TRYAGAIN the slot is being moved') end

local clock = call('TIME')
local micros = clock[1] * 1000000 + clock[2]
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function count(what, by)
  if by > 0 then call('HINCRBY', root .. 'counters', what, by) end
end

-- Rings a bell that has not been rung. The token says why: n(ew), or m(ore) where somebody who fetched left some behind.
local function ring(bell, why)
  if call('EXISTS', root .. bell) == 0 then call('RPUSH', root .. bell, why or 'n') end
end

-- Returns whether a task is ready. `levels` are the priorities that were ever used, highest first.
local function some_ready(levels)
  for at = 1, #levels do
    if call('EXISTS', root .. 'r' .. string.sub(levels, at, at)) == 1 then return true end
  end
  return false
end

-- Rings for ready tasks, unless the queue is paused.
local function ring_ready()
  if call('HEXISTS', root, 'paused') == 0 then ring('wake') end
end
