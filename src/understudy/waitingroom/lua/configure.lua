-- Change settings of an event; the bucket is filled at the old rate up to now. Silence that is to end tickets counts
-- from now on, if that is among them: nobody knew before. Harmless to repeat.
--
-- KEYS  1 event:{E}
-- ARGV  1 deadline (ms)  2… field and value of each setting
-- → {1}   {0, NO_EVENT | TOO_LATE}
local function configure(KEYS, ARGV)
  local now = now_ms()
  local refused = refusal(KEYS[1], ARGV[1], now)
  if refused then return refused end
  if redis.call('EXISTS', KEYS[1]) == 0 then return {0, 'NO_EVENT'} end
  fill({event = KEYS[1]}, now)
  redis.call('HSET', KEYS[1], unpack(ARGV, 2))
  for at = 2, #ARGV, 2 do
    if ARGV[at] == 'abandon_ms' then redis.call('HSET', KEYS[1], 'awake', now) end
  end
  return {1}
end
