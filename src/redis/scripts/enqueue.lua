-- Adds tasks, all or none.
--
-- KEYS  root of the queue
-- ARGV  channel, number, number - 1, ms to remember the call, counter (enqueued or revived), how many tasks, then runs:
--       priority, how many, frames that are ready at once; or w, how many, and for each that waits: when (+ms: that much
--       later, ms: at that time), frame
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

local ready, waiting, i = 0, {}, 7
while i < #ARGV do
  local kind, n = ARGV[i], tonumber(ARGV[i + 1])
  if kind == 'w' then
    for at = i + 2, i + 2 * n, 2 do
      local when, frame = ARGV[at], ARGV[at + 1]
      local due = tonumber(when)
      if string.byte(when) == 43 then due = now + due end
      if due > now then
        local last = #waiting
        waiting[last + 1], waiting[last + 2], waiting[last + 3] = 'scheduled', string.format('%.0f', due), frame
      else
        ready = ready + 1
        push_back({ frame })
      end
    end
    i = i + 2 + 2 * n
  else
    ready = ready + n
    note(kind)
    call('RPUSH', root .. 'r' .. kind, unpack(ARGV, i + 2, i + 1 + n))
    i = i + 2 + n
  end
end
push_waiting(waiting)
count(ARGV[5], tonumber(ARGV[6]))
if ready > 0 then ring_ready(ready) end
local reply = string.format('%.0f', now)
call('SET', channel, number .. ':' .. reply, 'PX', ARGV[4])
return reply
