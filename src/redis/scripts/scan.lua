-- Reads a page of the stored tasks of one state, in the order in which they would be fetched or become due.
--
-- KEYS  root of the queue
-- ARGV  state, how many to skip, most
-- Reply whether there may be more (0 or 1), then per task: frame, ms when due (0: does not wait), incarnation and worker
--       that hold it (empty: none)
local skip, most = tonumber(ARGV[2]), tonumber(ARGV[3])
local page = { 0 }

local function add(frame, due, id, worker)
  local n = #page
  page[n + 1], page[n + 2], page[n + 3], page[n + 4] = frame, due, id, worker
  most = most - 1
end

-- Reads from an ordered source of `n` entries, `read(from, to)` giving the entries at those places.
local function source(n, read)
  if skip >= n then
    skip = skip - n
  elseif most == 0 then
    page[1] = 1
  else
    local to = math.min(skip + most, n)
    read(skip, to - 1)
    skip = 0
    if to < n then page[1] = 1 end
  end
end

if ARGV[1] == 'ready' then
  for level = 9, 0, -1 do
    local list = root .. 'r' .. level
    source(call('LLEN', list), function(from, to)
      for _, frame in ipairs(call('LRANGE', list, from, to)) do add(frame, '0', '', '') end
    end)
  end
elseif ARGV[1] == 'active' then
  local holders = {}
  for _, of in ipairs({ 'lives', 'orphans' }) do
    local pattern = of == 'lives' and '^%d+ %d+ %S* (.*)$' or '^%S+ (.*)$'
    local flat = call('HGETALL', root .. of)
    for i = 1, #flat, 2 do holders[#holders + 1] = { flat[i], string.match(flat[i + 1], pattern) } end
  end
  table.sort(holders, function(a, b) return a[1] < b[1] end)
  for _, holder in ipairs(holders) do
    local flight = root .. 'f:' .. holder[1]
    source(call('HLEN', flight), function(from, to)
      local tags = call('HKEYS', flight)
      table.sort(tags, function(a, b) return tonumber(a) < tonumber(b) end)
      for i = from + 1, to + 1 do add(call('HGET', flight, tags[i]), '0', holder[1], holder[2]) end
    end)
  end
else
  local set = root .. ARGV[1]
  source(call('ZCARD', set), function(from, to)
    local flat = call('ZRANGE', set, from, to, 'WITHSCORES')
    for i = 1, #flat, 2 do add(string.sub(flat[i], 7), flat[i + 1], '', '') end
  end)
end
return page
