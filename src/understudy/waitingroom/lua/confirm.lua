-- Buy held seats: all of them, or none. Seats that this holder has bought already are no error.
--
-- KEYS, ARGV  as hold
-- → {1, seats left[, 'replayed']}
--   {0, NOT_HOLDER, seat…}  {0, NO_EVENT | IDEMPOTENCY_CONFLICT | TOO_LATE}
local function confirm(KEYS, ARGV)
  local now = now_ms()
  local refused = refusal(KEYS[1], ARGV[1], now)
  if refused then return refused end
  local K, holder = named(KEYS), ARGV[2]
  local e = redis.call('HMGET', K.event, 'dedupe_ms', 'created')
  if not e[1] then return {0, 'NO_EVENT'} end
  local answer = replay(KEYS[12], e[2], ARGV[3])
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
  remember(KEYS[12], e[2], ARGV[3], e[1], answer)
  return {1, answer[1]}
end
