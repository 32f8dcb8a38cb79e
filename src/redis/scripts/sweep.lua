-- Closes whom silence or proof shows to be dead, and moves what closed incarnations held.
--
-- KEYS  roots of queues, swept one after the other
-- ARGV  most tasks to move, ms for which closed identities are remembered, what is kept for those who wait for poison,
--       the same for the delivery limit, ms for which it is kept, whether results are kept elsewhere (0 or 1), how often in
--       a row sweeps that hold back let a lease start again, then incarnations of processes proven dead
-- Reply per queue: held back (0 or 1), how many are ready again, how many were buried, more (0 or 1), closed (incarnation, worker,
--       proven: flat), lives left (incarnation, proof: flat)
poison, limit, keep_wanted = ARGV[3], ARGV[4], tonumber(ARGV[5])
elsewhere = ARGV[6] == '1'
local most_held = tonumber(ARGV[7])
local proven = {}
for i = 8, #ARGV do proven[ARGV[i]] = true end

local room = tonumber(ARGV[1])

-- Notes that a lease starts again although its owner was not heard; not so when that was done too often in a row. Another
-- deadline than the one that was left last says that the owner has renewed.
local function hold(id, deadline, lease)
  local life = root .. 'i:' .. id
  local held = call('HMGET', life, 'number', 'held_until', 'held_times')
  if not held[1] then return false end
  local times = tonumber(held[2]) == deadline and tonumber(held[3]) or 0
  if times >= most_held then return false end
  call('HSET', life, 'held_until', string.format('%.0f', now + lease), 'held_times', times + 1)
  return true
end

local function sweep()
  local lives, leases = {}, {}
  local flat = call('HGETALL', root .. 'lives')
  for i = 1, #flat, 2 do lives[#lives + 1] = { flat[i], string.match(flat[i + 1], '^(%d+) %d+ (%S*) (.*)$') } end
  table.sort(lives, function(a, b) return a[1] < b[1] end)
  flat = call('ZRANGE', root .. 'leases', 0, -1, 'WITHSCORES')
  for i = 1, #flat, 2 do leases[flat[i]] = tonumber(flat[i + 1]) end

  local shortest
  for _, life in ipairs(lives) do shortest = math.min(shortest or math.huge, tonumber(life[2])) end
  local last = tonumber(call('HGET', root, 'sweep'))
  local held_back = shortest ~= nil and (last == nil or now < last or now - last > shortest / 2)
  call('HSET', root, 'sweep', string.format('%.0f', now))

  local closed, left = {}, {}
  for _, life in ipairs(lives) do
    local id, lease, proof, worker = life[1], tonumber(life[2]), life[3], life[4]
    local deadline = leases[id]
    local again = held_back and deadline ~= nil and hold(id, deadline, lease)
    if proven[id] or deadline == nil or (not again and deadline <= now) then
      close(id, 'rescued', worker, ARGV[2])
      closed[#closed + 1], closed[#closed + 2], closed[#closed + 3] = id, worker, proven[id] and 1 or 0
    else
      if again or deadline > now + lease then call('ZADD', root .. 'leases', now + lease, id) end
      left[#left + 1], left[#left + 2] = id, proof
    end
  end
  -- A lease without a life is left over from data that was lost in part.
  for id in pairs(leases) do
    if call('HEXISTS', root .. 'lives', id) == 0 then call('ZREM', root .. 'leases', id) end
  end

  local ready, buried = 0, 0
  flat = call('HGETALL', root .. 'orphans')
  for i = 1, #flat, 2 do
    if ready + buried >= room then break end
    local how, worker = string.match(flat[i + 1], '^(%S+) (.*)$')
    local r, b = move(flat[i], how, worker, room - ready - buried)
    ready, buried = ready + r, buried + b
  end
  if ready > 0 then ring_ready(ready) end
  room = room - ready - buried
  return { held_back and 1 or 0, ready, buried, call('EXISTS', root .. 'orphans'), closed, left }
end

local all = {}
for q = 1, #KEYS do
  root, levels = KEYS[q], nil
  all[q] = sweep()
end
return all
