-- Make an event, without seats yet: `seats` adds them and then makes it `created`.
-- One that was left half-made (state `creating`) is made again from the start, or gone on with, if it is the same.
--
-- KEYS  1 event:{E}  2 stream:event:{E}  3 seat:status:{E}  4 inventory:{E}
-- ARGV  1 deadline (ms)  2 digest of settings and seats  3… field and value of each setting
-- → {1}   {0, EVENT_EXISTS | TOO_LATE}
local function create(KEYS, ARGV)
  local now = now_ms()
  local refused = refusal(KEYS[1], ARGV[1], now)
  if refused then return refused end
  local made = redis.call('HMGET', KEYS[1], 'state', 'digest')
  if made[1] then
    if made[1] ~= 'creating' then return {0, 'EVENT_EXISTS'} end
    if made[2] == ARGV[2] then return {1} end
  end
  local group = redis.pcall('XGROUP', 'CREATE', KEYS[2], GROUP, '0', 'MKSTREAM')
  if group.err and not string.find(group.err, 'BUSYGROUP', 1, true) then return group end
  redis.call('UNLINK', KEYS[3])
  redis.call('HSET', KEYS[1], 'state', 'creating', 'digest', ARGV[2], 'created', now, 'filled', now,
    'ticked', now, 'awake', now,
    'seq', 0, 'called', 0, 'entered', 0, 'left', 0, 'expired', 0, 'ended', 0, 'abandoned', 0, 'aged', 0,
    'sold', 0, 'seats', 0, 'tokens', MICRO * MICRO, unpack(ARGV, 3))  -- the bucket is full: `fill` cuts it to its size
  redis.call('SET', KEYS[4], 0)
  return {1}
end
