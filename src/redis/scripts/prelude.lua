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
-- The others of a burst are b.
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

-- Returns how many tasks are ready.
local function count_ready()
  local levels, n = call('HGET', root, 'levels') or '', 0
  for at = 1, #levels do n = n + call('LLEN', root .. 'r' .. string.sub(levels, at, at)) end
  return n
end

-- Returns how many are woken at once where `n` tasks are ready: one for each share of them. The chain of those who leave
-- some behind reaches the others later, one by one.
local share, most_woken = 32, 16
local function worth(n)
  return math.min(math.ceil(n / share), most_woken)
end

-- Rings for `added` tasks that became ready, unless the queue is paused: one token; for a burst more, less those that what
-- was ready before is worth, and no more than there are consumers. What lies there still counts.
local function ring_ready(added)
  if call('HEXISTS', root, 'paused') == 1 then return end
  ring('wake')
  if added <= share then return end
  local ready = count_ready()
  local tokens = math.min(worth(ready) - worth(ready - added), call('ZCARD', root .. 'leases'))
  local others = {}
  for i = 1, tokens - call('LLEN', root .. 'wake') do others[i] = 'b' end
  if #others > 0 then call('RPUSH', root .. 'wake', unpack(others)) end
end
