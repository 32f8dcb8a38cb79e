-- Makes due tasks ready, earliest first.
--
-- KEYS  root of the queue
-- ARGV  most
-- Reply how many, ms, ms when the next is due (nil: none waits)
local most, ready = tonumber(ARGV[1]), {}
while #ready < most do
  local a, b = first_due('scheduled'), first_due('retrying')
  local set, other = 'scheduled', b
  if not a or (b and b < a) then set, other = 'retrying', a end
  -- Up to where the other set has nothing that comes first.
  local until_ms = math.min(now, other or now)
  local due = call('ZRANGE', root .. set, '-inf', string.format('%.0f', until_ms), 'BYSCORE', 'LIMIT', 0, most - #ready)
  if #due == 0 then break end
  call('ZREMRANGEBYRANK', root .. set, 0, #due - 1)
  for i = 1, #due do ready[#ready + 1] = string.sub(due[i], 7) end
end
for i = 1, #ready do
  -- What waits was written by our own steps; whatever else lies there cannot be put into a priority.
  if not is_frame(ready[i]) then
    bury(ready[i], 'undecodable', '?', 'what waited is no frame')
    count('dead', 1)
    ready[i] = ''
  end
end
local frames = {}
for i = 1, #ready do if ready[i] ~= '' then frames[#frames + 1] = ready[i] end end
push_back(frames)
if #frames > 0 then ring_ready(#frames) end
local a, b = first_due('scheduled'), first_due('retrying')
local next_due = (a or b) and string.format('%.0f', math.min(a or math.huge, b or math.huge))
return { #ready, string.format('%.0f', now), next_due or false }
