-- Give held seats back: all of them, or none.
--
-- KEYS, ARGV  as hold
-- → {1, seats left[, 'replayed']}
--   {0, NOT_HOLDER | SEAT_SOLD, seat…}  {0, NO_EVENT | IDEMPOTENCY_CONFLICT | TOO_LATE}
local function release(KEYS, ARGV)
  local now = now_ms()
  if late(ARGV[1], now) then return {0, 'TOO_LATE'} end
  local K, holder = named(KEYS), ARGV[2]
  local dedupe_ms = redis.call('HGET', K.event, 'dedupe_ms')
  if not dedupe_ms then return {0, 'NO_EVENT'} end
  local answer = remembered(KEYS[12], ARGV[3])
  if answer then return answer end
  free_expired(K, now, 50)
  local others, sold = {0, 'NOT_HOLDER'}, {0, 'SEAT_SOLD'}
  for at = 4, #ARGV do
    if redis.call('HGET', K.holder, ARGV[at]) ~= holder then
      others[#others + 1] = ARGV[at]
    elseif redis.call('HGET', K.status, ARGV[at]) == 'SOLD' then
      sold[#sold + 1] = ARGV[at]
    end
  end
  if #others > 2 then return others end
  if #sold > 2 then return sold end
  for at = 4, #ARGV do
    free_seat(K, ARGV[at])
    redis.call('UNLINK', KEYS[at + 9])
  end
  answer = {redis.call('GET', K.inventory)}
  remember(KEYS[12], ARGV[3], dedupe_ms, answer)
  return {1, answer[1]}
end
