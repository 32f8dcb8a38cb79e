-- Forgets results that were taken to another server, unless they were replaced meanwhile.
--
-- KEYS  root of the queue
-- ARGV  ids as hex and what was taken of them
-- Reply how many
local forgotten = 0
for i = 1, #ARGV, 2 do
  if call('HGET', root .. 'results', ARGV[i]) == ARGV[i + 1] then
    forgotten = forgotten + call('HDEL', root .. 'results', ARGV[i])
  end
end
return forgotten
