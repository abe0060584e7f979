-- Add seats to an event that is being made; with the last of them it is `created`. Harmless to repeat.
--
-- KEYS  1 event:{E}  2 seat:status:{E}  3 inventory:{E}
-- ARGV  1 deadline (ms)  2 digest, as given to `create`  3 '1' with the last of them  4… the seats
-- → {1, seats so far}   {0, NO_EVENT | EVENT_EXISTS | TOO_LATE}
local function seats(KEYS, ARGV)
  local refused = refusal(KEYS[1], ARGV[1], now_ms())
  if refused then return refused end
  local made = redis.call('HMGET', KEYS[1], 'state', 'digest', 'seats')
  if not made[1] then return {0, 'NO_EVENT'} end
  if made[2] ~= ARGV[2] then return {0, 'EVENT_EXISTS'} end
  if made[1] ~= 'creating' then return {1, tonumber(made[3])} end
  local added = 0
  for at = 4, #ARGV do added = added + redis.call('HSETNX', KEYS[2], ARGV[at], 'AVAILABLE') end
  redis.call('INCRBY', KEYS[3], added)
  if ARGV[3] == '1' then redis.call('HSET', KEYS[1], 'state', 'created') end
  return {1, redis.call('HINCRBY', KEYS[1], 'seats', added)}
end
