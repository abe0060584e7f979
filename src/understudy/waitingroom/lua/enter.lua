-- Go in, if it is this ticket's turn. Asked for again, the answer is the same.
--
-- KEYS  1 event:{E}  2 waiting:{E}  3 seen:{E}  4 admitted:{E}  5 inside:{E}  6 stream:event:{E}  7 ticket:{E}:ID
-- ARGV  1 deadline (ms)  2 ticket id
-- → {1, user, ms of entry, ms at which the session ends}
--   {0, NOT_ADMITTED, a place as in status…}  {0, TICKET_GONE, state}  {0, NO_TICKET | NO_EVENT | EVENT_NOT_OPEN | TOO_LATE}
local function enter(KEYS, ARGV)
  local now = now_ms()
  local refused = refusal(KEYS[1], ARGV[1], now)
  if refused then return refused end
  local K, id, ticket = named(KEYS), ARGV[2], KEYS[7]
  local state_of_event = redis.call('HGET', K.event, 'state')
  if not state_of_event then return {0, 'NO_EVENT'} end
  local state = redis.call('HGET', ticket, 'state')
  if not state then return {0, 'NO_TICKET'} end
  if state == 'waiting' then
    if state_of_event == 'closed' then return {0, 'EVENT_NOT_OPEN', state_of_event} end
    redis.call('ZADD', K.seen, 'XX', now, id)
    end_overdue(K, now, 50)
    admit(K, now, 50)
  end
  local fields = redis.call('HMGET', ticket, 'state', 'enter_by', 'ends', 'user', 'issued')
  if fields[1] == 'inside' and tonumber(fields[3]) > now then
    return {1, fields[4], tonumber(fields[5]), tonumber(fields[3])}
  end
  local place = place_of(K, id, fields, event_for_places(K, now), now)
  if place[1] == 'waiting' then return {0, 'NOT_ADMITTED', unpack(place)} end
  if place[1] ~= 'admitted' then return {0, 'TICKET_GONE', place[1]} end
  local ends = now + tonumber(redis.call('HGET', K.event, 'session_ms'))
  redis.call('ZREM', K.admitted, id)
  redis.call('ZADD', K.inside, ends, id)
  redis.call('HSET', ticket, 'state', 'inside', 'issued', now, 'ends', ends)
  redis.call('HINCRBY', K.event, 'entered', 1)
  return {1, fields[4], now, ends}
end
