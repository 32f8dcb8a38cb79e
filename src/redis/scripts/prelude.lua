-- In front of every script. KEYS[1] is the root of a queue, `<namespace>:{<queue>}:`, itself a hash with what is small:
--   paused (1), sweep (ms of the last sweep), rev (version of the revocations), seq (numbers waiting tasks),
--   burial (number of the last burial).
-- All other keys of a queue are its root and a suffix (`keys.rs` has the list), so they lie in one slot.
local call, root = redis.call, KEYS[1]
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

-- Returns whether a task is ready.
local function some_ready()
  local r = root .. 'r'
  return call('EXISTS', r .. '9', r .. '8', r .. '7', r .. '6', r .. '5', r .. '4', r .. '3', r .. '2', r .. '1', r .. '0') > 0
end

-- Rings for ready tasks, unless the queue is paused.
local function ring_ready()
  if call('HEXISTS', root, 'paused') == 0 then ring('wake') end
end
