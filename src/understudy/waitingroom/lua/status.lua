-- Where tickets stand. Reads only.
--
-- KEYS  1 event:{E}  2 waiting:{E}  3 seen:{E}  4… ticket:{E}:ID, as many as are asked for
-- ARGV  the ticket ids, in the same order
-- → {1, place…}, a place being {state, state of the event, position, waiting, rate in thousandths a second, called so
--   far, ms left to enter, ms since it was seen, ms after which it is abandoned}, or 0 where there is no such ticket
--   {0, NO_EVENT}
local function status(KEYS, ARGV)
  local K = {event = KEYS[1], waiting = KEYS[2], seen = KEYS[3]}
  local now, answer = now_ms(), {1}
  local event = event_for_places(K, now)
  if not event then return {0, 'NO_EVENT'} end
  for at, id in ipairs(ARGV) do
    local fields = redis.call('HMGET', KEYS[3 + at], 'state', 'enter_by', 'ends')
    answer[#answer + 1] = fields[1] and place_of(K, id, fields, event, now) or 0
  end
  return answer
end
