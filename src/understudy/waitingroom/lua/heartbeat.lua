-- Signs of life of tickets in the line.
--
-- KEYS  1 event:{E}  2 waiting:{E}  3 seen:{E}  4… ticket:{E}:ID
-- ARGV  the ticket ids, in the same order
-- → as status
local function heartbeat(KEYS, ARGV)
  local now = now_ms()
  for _, id in ipairs(ARGV) do redis.call('ZADD', KEYS[3], 'XX', now, id) end
  return status(KEYS, ARGV)
end
