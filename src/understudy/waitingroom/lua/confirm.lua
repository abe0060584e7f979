-- Buy held seats: all of them, or none. Seats that this holder has bought already are no error.
--
-- KEYS, ARGV  as hold
-- → {1, seats left[, 'replayed']}
--   {0, NOT_HOLDER, seat…}  {0, NO_EVENT | IDEMPOTENCY_CONFLICT | TOO_LATE}
local function confirm(KEYS, ARGV)
  local now = now_ms()
  if late(ARGV[1], now) then return {0, 'TOO_LATE'} end
  local K, holder = named(KEYS), ARGV[2]
  local dedupe_ms = redis.call('HGET', K.event, 'dedupe_ms')
  if not dedupe_ms then return {0, 'NO_EVENT'} end
  local answer = remembered(KEYS[12], ARGV[3])
  if answer then return answer end
  local others = {0, 'NOT_HOLDER'}
  for at = 4, #ARGV do
    local ends = tonumber(redis.call('ZSCORE', K.holds, ARGV[at]) or now + 1)  -- a sold seat has none
    if redis.call('HGET', K.holder, ARGV[at]) ~= holder or ends <= now then others[#others + 1] = ARGV[at] end
  end
  if #others > 2 then return others end
  for at = 4, #ARGV do
    if redis.call('HGET', K.status, ARGV[at]) == 'HELD' then
      redis.call('HSET', K.status, ARGV[at], 'SOLD')
      redis.call('ZREM', K.holds, ARGV[at])
      redis.call('UNLINK', KEYS[at + 9])
      redis.call('HINCRBY', K.event, 'sold', 1)
    end
  end
  answer = {redis.call('GET', K.inventory)}
  remember(KEYS[12], ARGV[3], dedupe_ms, answer)
  return {1, answer[1]}
end
