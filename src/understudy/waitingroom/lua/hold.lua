-- Hold seats: all of them, or none.
--
-- KEYS  1 event:{E}  2 waiting:{E}  3 seen:{E}  4 admitted:{E}  5 inside:{E}  6 stream:event:{E}
--       7 seat:status:{E}  8 seat:holder:{E}  9 holds:{E}  10 held:{E}  11 inventory:{E}
--       12 answer:{E}:O:ID:K  13… hold:seat:{E}:S, in the order of the seats
-- ARGV  1 deadline (ms)  2 ticket id of the holder  3 digest of the request  4… the seats
-- → {1, seats left, ms at which the hold ends[, 'replayed']}
--   {0, SEAT_UNAVAILABLE | NO_SEAT, seat…}  {0, SOLD_OUT | TOO_MANY_SEATS | NOT_INSIDE | NO_EVENT | EVENT_NOT_OPEN |
--   IDEMPOTENCY_CONFLICT | TOO_LATE}
local function hold(KEYS, ARGV)
  local now = now_ms()
  local refused = refusal(KEYS[1], ARGV[1], now)
  if refused then return refused end
  local K, holder, wanted = named(KEYS), ARGV[2], #ARGV - 3
  local e = redis.call('HMGET', K.event, 'state', 'hold_ms', 'seats_per_ticket', 'dedupe_ms', 'created')
  if not e[1] then return {0, 'NO_EVENT'} end
  local answer = replay(KEYS[12], e[5], ARGV[3])
  if answer then return answer end
  if e[1] ~= 'open' and e[1] ~= 'paused' then return {0, 'EVENT_NOT_OPEN', e[1]} end
  local ends = now + tonumber(e[2])
  local session = tonumber(redis.call('ZSCORE', K.inside, holder) or 0)
  if session <= now then return {0, 'NOT_INSIDE'} end
  ends = math.min(ends, session)
  local own = {}
  for seat in string.gmatch(redis.call('HGET', K.held, holder) or '', '%S+') do own[#own + 1] = seat end
  free_over(K, now, own, 1)
  free_over(K, now, ARGV, 4)
  free_expired(K, now, 50)
  local unknown, taken = {0, 'NO_SEAT'}, {0, 'SEAT_UNAVAILABLE'}
  for at = 4, #ARGV do
    local status = redis.call('HGET', K.status, ARGV[at])
    if not status then unknown[#unknown + 1] = ARGV[at] end
    if status ~= 'AVAILABLE' then taken[#taken + 1] = ARGV[at] end
  end
  if #unknown > 2 then return unknown end
  local left = tonumber(redis.call('GET', K.inventory) or 0)
  if left <= 0 then return {0, 'SOLD_OUT'} end
  if #taken > 2 then return taken end
  if left < wanted then return {0, 'SOLD_OUT'} end
  local before = redis.call('HGET', K.held, holder)
  local _, count = string.gsub(before or '', '%S+', '')
  if count + wanted > tonumber(e[3]) then return {0, 'TOO_MANY_SEATS', tonumber(e[3])} end

  for at = 4, #ARGV do
    redis.call('HSET', K.status, ARGV[at], 'HELD')
    redis.call('HSET', K.holder, ARGV[at], holder)
    redis.call('ZADD', K.holds, ends, ARGV[at])
    redis.call('SET', KEYS[at + 9], holder, 'PX', ends - now)
  end
  redis.call('HSET', K.held, holder, (before and before .. ' ' or '') .. table.concat(ARGV, ' ', 4))
  answer = {tostring(redis.call('DECRBY', K.inventory, wanted)), string.format('%.0f', ends)}
  remember(KEYS[12], e[5], ARGV[3], e[4], answer)
  table.insert(answer, 1, 1)
  return answer
end
