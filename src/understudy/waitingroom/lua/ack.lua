-- A worker is done with tickets. Those that were given to another in the meantime are not its to acknowledge.
--
-- KEYS  as event
-- ARGV  1 deadline (ms)  2 consumer  3… stream ids
-- → {1, how many}   {0, NO_EVENT | TOO_LATE}
local function ack(KEYS, ARGV)
  local refused = refusal(KEYS[1], ARGV[1], now_ms())
  if refused then return refused end
  local K, acknowledged = named(KEYS), 0
  if redis.call('EXISTS', K.event) == 0 then return {0, 'NO_EVENT'} end
  for at = 3, #ARGV do
    -- what is no stream id is an error, and nobody's
    local pending = redis.pcall('XPENDING', K.stream, GROUP, ARGV[at], ARGV[at], 1)[1]
    if pending and pending[2] == ARGV[2] then
      local entry = redis.call('XRANGE', K.stream, ARGV[at], ARGV[at])[1]
      if entry then end_ticket(K, entry[2][2], 'done') end
      redis.call('XACK', K.stream, GROUP, ARGV[at])
      acknowledged = acknowledged + 1
    end
  end
  return {1, acknowledged}
end
