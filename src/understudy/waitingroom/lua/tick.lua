-- What time brings: holds, calls and sessions that are over, the abandoned, and those whose turn it is.
--
-- KEYS  as event
-- ARGV  1 how many of each at most
-- → as event, and at the end 1 where there may be more to do at once, else 0
--   {0, NO_EVENT}
local function tick(KEYS, ARGV)
  if redis.call('EXISTS', KEYS[1]) == 0 then return {0, 'NO_EVENT'} end
  local K, now, most = named(KEYS), now_ms(), tonumber(ARGV[1])
  local more = free_expired(K, now, most)
  more = end_overdue(K, now, most) or more
  more = end_abandoned(K, now, most) or more
  more = admit(K, now, most) or more
  local answer = event_as_data(K, now)
  answer[#answer + 1] = more and 1 or 0
  return answer
end
