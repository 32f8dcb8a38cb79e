-- Settles what finished and fetches what is next.
--
-- KEYS  root of the queue
-- ARGV  incarnation, number, number - 1, want, first tag, then outcomes (`settle.lua`)
-- Reply ms, more (0 or 1), version of the revocations, stale tags, deliveries: frames from the first tag on, nil where
--       one was taken meanwhile. Error GONE: closed, never opened, or a number that neither repeats nor follows.
local id, number, want, first = ARGV[1], ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5])
local life, flight = root .. 'i:' .. id, root .. 'f:' .. id
local meta = call('HMGET', life, 'number', 'reply', 'lease', 'worker')
if not meta[1] or number == '0' or not call('ZSCORE', root .. 'leases', id) then
  return redis.error_reply('GONE closed, or never opened')
end

if meta[1] == number then
  local reply = cjson.decode(meta[2])
  local frames, n = {}, reply[5]
  if n > 0 then
    local tags = {}
    for i = 0, n - 1 do tags[i + 1] = tostring(first + i) end
    frames = call('HMGET', flight, unpack(tags))
  end
  call('ZADD', root .. 'leases', now + meta[3], id)
  -- An empty table has no kind of its own in JSON.
  local stale = {}
  for i = 6, #reply do stale[#stale + 1] = reply[i] end
  return { reply[1], reply[2], reply[3], stale, frames }
end
if meta[1] ~= ARGV[3] then return redis.error_reply('GONE the number does not follow') end

local stale = {}
if #ARGV > 5 then settle(flight, meta[4], 6, stale) end
count('stale', #stale)

local state = call('HMGET', root, 'paused', 'rev')
local frames, more = {}, 0
if not state[1] then
  if want > 0 then
    local level = 9
    while level >= 0 and #frames < want do
      local some = call('LPOP', root .. 'r' .. level, want - #frames)
      if some then
        if #frames == 0 then frames = some else for i = 1, #some do frames[#frames + 1] = some[i] end end
      end
      level = level - 1
    end
    if #frames > 0 then
      local held, tag = {}, first
      for i = 1, #frames do
        held[2 * i - 1], held[2 * i] = tag, frames[i]
        tag = tag + 1
      end
      call('HSET', flight, unpack(held))
    end
  end
  if some_ready() then
    more = 1
    if want > 0 then ring('wake', 'm') end
  end
end
local rev = tonumber(state[2] or 0)
local reply = { string.format('%.0f', now), more, rev, '', #frames }
for i = 1, #stale do reply[5 + i] = stale[i] end
call('HSET', life, 'number', number, 'reply', cjson.encode(reply))
call('ZADD', root .. 'leases', now + meta[3], id)
return { reply[1], more, rev, stale, frames }
