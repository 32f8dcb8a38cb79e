-- Settling: one outcome each, effective only where its tag was held.
--
-- An outcome is seven arguments: kind, tag, frame, delay, record, reason, note. Kinds: s(ucceeded), c(ancelled), e(xpired),
-- r(etry), l (release), b(ury). An empty frame keeps the one in flight, an empty record keeps nothing. Successes in a row
-- that keep nothing are three arguments and more: a(ll), how many, their tags.

local ended = { s = 'succeeded', c = 'cancelled', e = 'expired', r = 'retried', l = 'released', b = 'dead' }

-- Settles the outcomes from ARGV[from] on; appends the tags that were not held to `stale`. Rings for what is ready.
local function settle(flight, worker, from, stale)
  local counts, back, waiting, front, records = {}, {}, {}, {}, {}
  local i, last = from, #ARGV
  while i <= last do
    local kind, tag, frame, delay = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    if kind == 'a' then
      local to = i + 1 + tag
      for at = i + 2, to do
        if call('HDEL', flight, ARGV[at]) == 1 then
          counts.s = (counts.s or 0) + 1
        else
          stale[#stale + 1] = ARGV[at]
        end
      end
      i = to + 1
    else
      local held = (kind == 'l' or kind == 'b') and frame == '' and call('HGET', flight, tag)
      if call('HDEL', flight, tag) == 0 then
        stale[#stale + 1] = tag
      else
        counts[kind] = (counts[kind] or 0) + 1
        if frame == '' then frame = held end
        if kind == 'l' and not is_frame(frame) then
          counts.l, counts.b = counts.l - 1, (counts.b or 0) + 1
          bury(frame, 'undecodable', worker, 'released, and no frame')
        elseif kind == 'r' and delay == '0' then
          back[#back + 1] = frame
        elseif kind == 'l' and delay == '0' then
          front[#front + 1] = { tonumber(tag), frame }
        elseif kind == 'r' or kind == 'l' then
          waiting[#waiting + 1] = kind == 'r' and 'retrying' or 'scheduled'
          waiting[#waiting + 1] = string.format('%.0f', now + delay)
          waiting[#waiting + 1] = frame
        elseif kind == 'b' then
          bury(frame, ARGV[i + 5], worker, ARGV[i + 6])
        end
        if ARGV[i + 4] ~= '' then records[#records + 1] = ARGV[i + 4] end
      end
      i = i + 7
    end
  end
  for kind, n in pairs(counts) do count(ended[kind], n) end
  push_back(back)
  push_waiting(waiting)
  table.sort(front, function(a, b) return a[1] < b[1] end)
  for i, entry in ipairs(front) do front[i] = entry[2] end
  push_front(front)
  for _, record in ipairs(records) do keep(record) end
  if #back > 0 or #front > 0 then ring_ready(#back + #front) end
end
