-- Closing incarnations, and moving what closed ones held. An orphan is a closed incarnation that may still hold
-- something; its entry says whether that goes back counted (`rescued`) or not (`released`), and whose it was.

-- Closes an incarnation: from here on it is gone for every step.
local function close(id, how, worker, keep_ms)
  call('DEL', root .. 'i:' .. id)
  call('ZREM', root .. 'leases', id)
  call('HDEL', root .. 'lives', id)
  call('ZADD', root .. 'closed', now + keep_ms, id)
  if call('EXISTS', root .. 'f:' .. id) == 1 then
    call('HSET', root .. 'orphans', id, how .. ' ' .. worker)
  else
    call('DEL', root .. 'm:' .. id)
  end
end

local poison, limit, keep_wanted

-- Takes one delivery back from the dead: counts it in its header, and puts it to the front or buries it. Returns whether
-- it is ready again.
local function rescue(frame, started, worker)
  if not is_frame(frame) then
    bury(frame, 'undecodable', worker, 'what was in flight is no frame')
    return false
  end
  local deliveries, strikes = string.byte(frame, 5, 6)
  deliveries = math.min(deliveries + 1, 255)
  if started then strikes = math.min(strikes + 1, 255) end
  frame = string.sub(frame, 1, 4) .. string.char(deliveries, strikes) .. string.sub(frame, 7)
  local reason, note, body
  if strikes >= 2 then
    reason, note, body = 'poison', 'seen running at ' .. strikes .. ' crashes', poison
  elseif deliveries >= 20 then
    reason, note, body = 'delivery_limit', 'taken back from ' .. deliveries .. ' consumers that died', limit
  else
    push_front({ frame })
    return true
  end
  bury(frame, reason, worker, note)
  if is_wanted(frame) then keep(head_of(frame, keep_wanted) .. 'd' .. string.sub(frame, 7, 8) .. body) end
  return false
end

-- Moves at most `most` deliveries of one orphan, those with the highest tags first: so what is moved next comes before
-- them. Returns how many are ready again and how many were buried.
local function move(id, how, worker, most)
  local flight, marks = root .. 'f:' .. id, root .. 'm:' .. id
  local tags = call('HKEYS', flight)
  table.sort(tags, function(a, b) return tonumber(a) > tonumber(b) end)
  local last = math.min(#tags, most)
  local ready, buried = 0, 0
  for i = 1, last do
    local frame = call('HGET', flight, tags[i])
    call('HDEL', flight, tags[i])
    local again
    if how == 'rescued' then
      again = rescue(frame, call('SISMEMBER', marks, tags[i]) == 1, worker)
    elseif is_frame(frame) then
      push_front({ frame })
      again = true
    else
      bury(frame, 'undecodable', worker, 'released, and no frame')
      again = false
    end
    if again then ready = ready + 1 else buried = buried + 1 end
  end
  if last == #tags then
    call('DEL', marks)
    call('HDEL', root .. 'orphans', id)
  end
  count(how, ready)
  count('dead', buried)
  return ready, buried
end
