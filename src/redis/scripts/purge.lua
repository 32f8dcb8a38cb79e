-- Ends tasks that are ready or wait, those first that would be fetched or become due first.
--
-- KEYS  root of the queue
-- ARGV  state (ready, scheduled or retrying), most, whether results are kept elsewhere (0 or 1), ms for which it is kept
--       that a task was cancelled, where somebody waits for it
-- Reply how many
local state, most, keep_wanted = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4])
elsewhere = ARGV[3] == '1'
local frames = {}
if state == 'ready' then
  for level = 9, 0, -1 do
    if #frames >= most then break end
    for _, frame in ipairs(call('LPOP', root .. 'r' .. level, most - #frames) or {}) do frames[#frames + 1] = frame end
  end
elseif most > 0 then
  local first = call('ZRANGE', root .. state, 0, most - 1)
  if #first > 0 then call('ZREMRANGEBYRANK', root .. state, 0, #first - 1) end
  for i = 1, #first do frames[i] = string.sub(first[i], 7) end
end
count('cancelled', #frames)
for _, frame in ipairs(frames) do
  if is_wanted(frame) then keep(head_of(frame, keep_wanted) .. 'c' .. string.sub(frame, 7, 8)) end
end
return #frames
