-- Adds tasks, all or none.
--
-- KEYS  root of the queue
-- ARGV  channel, number, number - 1, ms to remember the call, counter (enqueued or revived), then per task: when
--       (empty: now, +ms: that much later, ms: at that time), frame
-- Reply ms. The same number again adds nothing and gets the same. Error ASTRAY: the number does not follow.
local channel, number = root .. 'p:' .. ARGV[1], ARGV[2]
local known = call('GET', channel)
if known then
  local last, reply = string.match(known, '^(%d+):(%d+)$')
  if last == number then
    call('PEXPIRE', channel, ARGV[4])
    return reply
  end
  if last ~= ARGV[3] then
    return redis.error_reply('ASTRAY call ' .. number .. ' does not follow ' .. last)
  end
end

local ready, waiting = {}, {}
for i = 6, #ARGV, 2 do
  local when, frame = ARGV[i], ARGV[i + 1]
  local due = 0
  if when ~= '' then
    due = tonumber(when)
    if string.byte(when) == 43 then due = now + due end
  end
  if due > now then
    waiting[#waiting + 1] = 'scheduled'
    waiting[#waiting + 1] = string.format('%.0f', due)
    waiting[#waiting + 1] = frame
  else
    ready[#ready + 1] = frame
  end
end
push_back(ready)
push_waiting(waiting)
count(ARGV[5], (#ARGV - 5) / 2)
if #ready > 0 then ring_ready() end
local reply = string.format('%.0f', now)
call('SET', channel, number .. ':' .. reply, 'PX', ARGV[4])
return reply
