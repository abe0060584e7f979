-- Give held seats back: all of them, or none.
--
-- KEYS, ARGV  as hold
-- → {1, seats left[, 'replayed']}
--   {0, NOT_HOLDER | SEAT_SOLD, seat…}  {0, NO_EVENT | IDEMPOTENCY_CONFLICT | TOO_LATE}
local function release(KEYS, ARGV)
  local now = now_ms()
  local refused = refusal(KEYS[1], ARGV[1], now)
  if refused then return refused end
  local K, holder = named(KEYS), ARGV[2]
  local e = redis.call('HMGET', K.event, 'dedupe_ms', 'created')
  if not e[1] then return {0, 'NO_EVENT'} end
  local answer = replay(KEYS[12], e[2], ARGV[3])
  if answer then return answer end
  free_over(K, now, ARGV, 4)
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
  for at = 4, #ARGV do free_seat(K, ARGV[at]) end
  answer = {redis.call('GET', K.inventory)}
  remember(KEYS[12], e[2], ARGV[3], e[1], answer)
  return {1, answer[1]}
end
