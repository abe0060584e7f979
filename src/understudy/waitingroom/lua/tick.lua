-- What time brings: holds, calls and sessions that are over, the abandoned, and those whose turn it is.
--
-- KEYS  as event
-- ARGV  1 how many of each at most
-- → as event, and at the end 1 where there may be more to do at once, else 0
--   {0, NO_EVENT}
local function tick(KEYS, ARGV)
  local K, now, most = named(KEYS), now_ms(), tonumber(ARGV[1])
  local refused = refusal(K.event, 0, now)
  if refused then return refused end
  local e = redis.call('HMGET', K.event, 'ticked', 'awake')
  if not e[1] then return {0, 'NO_EVENT'} end
  redis.call('HSET', K.event, 'ticked', now, 'awake', awake_since(e[1], e[2], now))
  local more = free_expired(K, now, most)
  more = end_overdue(K, now, most) or more
  more = end_abandoned(K, now, most) or more
  more = admit(K, now, most) or more
  local answer = event_as_data(K, now)
  answer[#answer + 1] = more and 1 or 0
  return answer
end
