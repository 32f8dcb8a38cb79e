-- What moves tasks within a queue.

local function priority(frame)
  return string.byte(frame, 4)
end

local function is_frame(frame)
  local magic, version, flags, level = string.byte(frame, 1, 4)
  return #frame >= 40 and magic == 206 and version == 1 and flags <= 3 and level <= 9
end

-- Returns whether somebody waits for the end of the task.
local function is_wanted(frame)
  return is_frame(frame) and string.byte(frame, 3) >= 2
end

-- Returns how a record of the task begins: its id as hex, ms to keep it.
local function head_of(frame, keep_ms)
  local id = string.gsub(string.sub(frame, 9, 24), '.', function(c) return string.format('%02x', string.byte(c)) end)
  return id .. struct.pack('>I8', keep_ms)
end

-- Notes that a priority is used: whoever fetches looks at those that were.
local levels
local function note(level)
  levels = levels or call('HGET', root, 'levels') or ''
  if string.find(levels, level, 1, true) then return end
  local all = {}
  for one in string.gmatch(levels .. level, '%d') do all[#all + 1] = one end
  table.sort(all, function(a, b) return a > b end)
  levels = table.concat(all)
  call('HSET', root, 'levels', levels)
end

-- Puts frames to the back of their priorities, in order.
local function push_back(frames)
  local n, i = #frames, 1
  while i <= n do
    local level, j = priority(frames[i]), i
    while j < n and priority(frames[j + 1]) == level do j = j + 1 end
    note(level)
    call('RPUSH', root .. 'r' .. level, unpack(frames, i, j))
    i = j + 1
  end
end

-- Puts frames to the front of their priorities, so that they come out in order.
local function push_front(frames)
  for i = #frames, 1, -1 do
    local level = priority(frames[i])
    note(level)
    call('LPUSH', root .. 'r' .. level, frames[i])
  end
end

-- Returns when the first of a set of waiting tasks is due, or nil.
local function first_due(set)
  local first = call('ZRANGE', root .. set, 0, 0, 'WITHSCORES')
  return tonumber(first[2])
end

-- Has frames wait, each until its time; rings when one of them is the first of all. `waiting` is {set, due, frame, ...}.
local function push_waiting(waiting)
  local n = #waiting / 3
  if n == 0 then return end
  local last = call('HINCRBY', root, 'seq', n)
  local a, b = first_due('scheduled'), first_due('retrying')
  local first = math.min(a or math.huge, b or math.huge)
  local earlier = false
  for i = 0, n - 1 do
    local set, due, frame = waiting[3 * i + 1], waiting[3 * i + 2], waiting[3 * i + 3]
    call('ZADD', root .. set, due, struct.pack('>I6', last - n + 1 + i) .. frame)
    if tonumber(due) < first then earlier = true end
  end
  if earlier then ring('due') end
end

-- Moves a task to the dead outbox. Members: made-up or own id (16), number (8; two burials of the same bytes at the same
-- time are two), ms (8), length of what was said (4), what was said (reason, worker, note, a line each), frame.
local function bury(frame, reason, worker, note)
  local number = math.max(micros, tonumber(call('HGET', root, 'burial') or 0) + 1)
  call('HSET', root, 'burial', string.format('%.0f', number))
  local id = is_frame(frame) and string.sub(frame, 9, 24) or struct.pack('>I8I8', number, number)
  local said = reason .. '\n' .. worker .. '\n' .. note
  local member = id .. struct.pack('>I8I8I4', number, now, #said) .. said .. frame
  call('ZADD', root .. 'dead', string.format('%.0f', number), member)
  ring('bell')
end

-- Whether results are kept at another server: then they wait here until somebody has taken them there.
local elsewhere = false
-- How many wait at most; beyond it what comes is dropped.
local most_waiting = 100000

-- Keeps what became of a task, and tells whoever waits. `record` is its id as hex (32), ms to keep it (8), the rest.
local function keep(record)
  if elsewhere then
    if call('HLEN', root .. 'results') >= most_waiting then return count('result_dropped', 1) end
    call('HSET', root .. 'results', string.sub(record, 1, 32), string.sub(record, 33))
    return
  end
  local key = root .. 't:' .. string.sub(record, 1, 32)
  call('SET', key, string.sub(record, 33), 'PX', (struct.unpack('>I8', record, 33)))
  -- A hint: whoever waits looks by himself now and then.
  redis.pcall('PUBLISH', key, '')
end
