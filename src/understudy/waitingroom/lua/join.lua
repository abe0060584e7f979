-- Take a place at the end of the line (the document's enqueue).
--
-- KEYS  1 event:{E}  2 waiting:{E}  3 seen:{E}  4 stream:event:{E}  5 stream:event:{E}:user:U  6 ticket:{E}:ID
--       7… dedupe:{E}:K of the idempotency key, where there is one, then of the dedupe key, where there is another
-- ARGV  1 deadline (ms)  2 ticket id  3 user  4 ticket (only to remember it with the answer)
--       5 digest of the request, for an idempotency key; empty: the first key is a dedupe key, used once
-- → {1, stream id, ticket, user, position, place in the user's stream, waiting, rate in thousandths a second[, 'replayed']}
--   {0, DUPLICATE | IDEMPOTENCY_CONFLICT | NO_EVENT | EVENT_NOT_OPEN | QUEUE_FULL | TOO_LATE}
local function join(KEYS, ARGV)
  local now = now_ms()
  local refused = refusal(KEYS[1], ARGV[1], now)
  if refused then return refused end
  local id, user, digest = ARGV[2], ARGV[3], ARGV[5]
  local e = redis.call('HMGET', KEYS[1], 'state', 'max_waiting', 'tickets_per_user', 'dedupe_ms', 'rate', 'created')
  if not e[1] then return {0, 'NO_EVENT'} end
  local sid = redis.call('HGET', KEYS[6], 'sid')
  if sid then  -- this very request, sent again because its answer was lost
    local rank = redis.call('ZRANK', KEYS[2], id)
    return {1, sid, ARGV[4], user, (rank or -1) + 1, redis.call('XLEN', KEYS[5]), redis.call('ZCARD', KEYS[2]), e[5]}
  end
  local repeats, once = KEYS[7], KEYS[8]
  if digest == '' then repeats, once = nil, KEYS[7] end
  local known = repeats and replay(repeats, e[6], digest)
  if known then return known end
  if once and kept(once, e[6]) then return {0, 'DUPLICATE'} end
  if redis.call('XLEN', KEYS[5]) >= tonumber(e[3]) then return {0, 'DUPLICATE'} end
  if e[1] ~= 'open' and e[1] ~= 'paused' then return {0, 'EVENT_NOT_OPEN', e[1]} end
  local waiting = redis.call('ZCARD', KEYS[2]) + 1
  if tonumber(e[2]) > 0 and waiting > tonumber(e[2]) then return {0, 'QUEUE_FULL'} end

  local seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
  sid = redis.call('XADD', KEYS[4], '*', 'ticket', id, 'user', user)
  redis.call('XADD', KEYS[5], sid, 'ticket', id)
  redis.call('HSET', KEYS[6], 'user', user, 'state', 'waiting', 'seq', seq, 'sid', sid, 'joined', now)
  redis.call('ZADD', KEYS[2], seq, id)
  redis.call('ZADD', KEYS[3], now, id)
  local answer = {sid, ARGV[4], user, waiting, redis.call('XLEN', KEYS[5]), waiting, e[5]}
  if repeats then remember(repeats, e[6], digest, e[4], answer) end
  if once then remember(once, e[6], '-', e[4], answer) end
  table.insert(answer, 1, 1)
  return answer
end
