-- Releases deliveries to the front of their priorities, uncounted.
--
-- KEYS  root of the queue
-- ARGV  incarnation, tags in ascending order
-- Reply how many were held
local id = ARGV[1]
local flight, frames = root .. 'f:' .. id, {}
local worker = call('HGET', root .. 'i:' .. id, 'worker')
if not worker then return 0 end
local released, buried = 0, 0
for i = 2, #ARGV do
  local frame = call('HGET', flight, ARGV[i])
  if frame then
    call('HDEL', flight, ARGV[i])
    if is_frame(frame) then
      frames[#frames + 1] = frame
    else
      buried = buried + 1
      bury(frame, 'undecodable', worker, 'released, and no frame')
    end
    released = released + 1
  end
end
push_front(frames)
count('released', #frames)
count('dead', buried)
if #frames > 0 then ring_ready(#frames) end
return released
