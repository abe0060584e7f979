-- Open, pause, resume or close an event. Harmless to repeat.
--
-- KEYS  1 event:{E}
-- ARGV  1 deadline (ms)  2 open | pause | resume | close
-- → {1, state}   {0, WRONG_STATE, state}  {0, NO_EVENT | TOO_LATE}
local TO = {open = 'open', pause = 'paused', resume = 'open', close = 'closed'}
local FROM = {
  open = {created = 1, closed = 1, open = 1}, pause = {open = 1, paused = 1},
  resume = {paused = 1, open = 1}, close = {created = 1, open = 1, paused = 1, closed = 1},
}

local function act(KEYS, ARGV)
  local now = now_ms()
  local refused = refusal(KEYS[1], ARGV[1], now)
  if refused then return refused end
  local state = redis.call('HGET', KEYS[1], 'state')
  if not state then return {0, 'NO_EVENT'} end
  if not FROM[ARGV[2]][state] then return {0, 'WRONG_STATE', state} end
  fill({event = KEYS[1]}, now)
  redis.call('HSET', KEYS[1], 'state', TO[ARGV[2]])
  return {1, TO[ARGV[2]]}
end
