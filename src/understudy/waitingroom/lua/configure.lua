-- Change settings of an event; the bucket is filled at the old rate up to now. Harmless to repeat.
--
-- KEYS  1 event:{E}
-- ARGV  1 deadline (ms)  2… field and value of each setting
-- → {1}   {0, NO_EVENT | TOO_LATE}
local function configure(KEYS, ARGV)
  local now = now_ms()
  if late(ARGV[1], now) then return {0, 'TOO_LATE'} end
  if redis.call('EXISTS', KEYS[1]) == 0 then return {0, 'NO_EVENT'} end
  fill({event = KEYS[1]}, now)
  redis.call('HSET', KEYS[1], unpack(ARGV, 2))
  return {1}
end
