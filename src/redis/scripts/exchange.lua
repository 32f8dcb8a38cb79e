-- Settles what finished and fetches what is next.
--
-- KEYS  root of the queue
-- ARGV  incarnation, number, number - 1, want, first tag, whether results are kept elsewhere (0 or 1), how many results
--       lost their bodies for want of memory, then outcomes (`settle.lua`)
-- Reply ms, more (0 or 1), version of the revocations, stale tags, deliveries: frames from the first tag on, nil where
--       one was taken meanwhile. Error GONE: closed, never opened, or a number that neither repeats nor follows.
local id, number, want, first = ARGV[1], ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5])
local life, flight = root .. 'i:' .. id, root .. 'f:' .. id
local meta = call('HMGET', life, 'number', 'lease', 'worker', 'renewed')
local last, lease, worker, renewed = meta[1], meta[2], meta[3], meta[4]
if not last or number == '0' then return redis.error_reply('GONE closed, or never opened') end
-- The lease runs from the last time it was written, so it is written often, and not each time.
local renews = last == number or now - (renewed or 0) > lease / 16
if renews and not call('ZSCORE', root .. 'leases', id) then return redis.error_reply('GONE it has no lease') end

if last == number then
  local reply = {}
  for word in string.gmatch(call('HGET', life, 'reply'), '%S+') do reply[#reply + 1] = word end
  local frames, n = {}, tonumber(reply[4])
  if n > 0 then
    local tags = {}
    for i = 0, n - 1 do tags[i + 1] = string.format('%d', first + i) end
    frames = call('HMGET', flight, unpack(tags))
  end
  call('ZADD', root .. 'leases', now + lease, id)
  local stale = {}
  for i = 5, #reply do stale[i - 4] = reply[i] end
  return { reply[1], reply[2], reply[3], stale, frames }
end
if last ~= ARGV[3] then return redis.error_reply('GONE the number does not follow') end

local stale = {}
elsewhere = ARGV[6] == '1'
if #ARGV > 7 then settle(flight, worker, 8, stale) end
count('result_dropped', tonumber(ARGV[7]))
count('stale', #stale)

local state = call('HMGET', root, 'paused', 'rev', 'levels')
local rev, levels = state[2] or '0', state[3] or ''
local frames, more = {}, '0'
if not state[1] then
  if want > 0 then
    for at = 1, #levels do
      local some = call('LPOP', root .. 'r' .. string.sub(levels, at, at), want - #frames)
      if some then
        if #frames == 0 then
          frames = some
        else
          for i = 1, #some do frames[#frames + 1] = some[i] end
        end
        if #frames == want then break end
      end
    end
    if #frames > 0 then
      -- Numbers given as such would be printed with seventeen digits, which costs more.
      local held, tag = {}, first
      for i = 1, #frames do
        held[2 * i - 1], held[2 * i] = string.format('%d', tag), frames[i]
        tag = tag + 1
      end
      call('HSET', flight, unpack(held))
    end
  end
  -- Where fewer were found than wanted, every level was emptied.
  if #frames == want and some_ready(levels) then
    more = '1'
    if want > 0 then ring('wake', 'm') end
  end
end
local at = string.format('%.0f', now)
local reply = at .. ' ' .. more .. ' ' .. rev .. ' ' .. #frames .. ' ' .. table.concat(stale, ' ')
if renews then
  call('HSET', life, 'number', number, 'reply', reply, 'renewed', at)
  call('ZADD', root .. 'leases', now + lease, id)
else
  call('HSET', life, 'number', number, 'reply', reply)
end
return { at, more, rev, stale, frames }
