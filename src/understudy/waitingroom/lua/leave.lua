-- Go away, from wherever the ticket stands; what it holds is free at once. Harmless to repeat.
--
-- KEYS  1 event:{E}  2 waiting:{E}  3 seen:{E}  4 admitted:{E}  5 inside:{E}  6 stream:event:{E}
--       7 seat:status:{E}  8 seat:holder:{E}  9 holds:{E}  10 held:{E}  11 inventory:{E}  12 ticket:{E}:ID
-- ARGV  1 deadline (ms)  2 ticket id
-- → {1, state}   {0, NO_TICKET | TOO_LATE}
local ENDED = {left = 1, expired = 1, abandoned = 1, aged = 1, ended = 1, done = 1}

local function leave(KEYS, ARGV)
  local refused = refusal(KEYS[1], ARGV[1], now_ms())
  if refused then return refused end
  local K, id = named(KEYS), ARGV[2]
  local state = redis.call('HGET', KEYS[12], 'state')
  if not state then return {0, 'NO_TICKET'} end
  if ENDED[state] then return {1, state} end
  end_ticket(K, id, 'left', 'left')
  for seat in string.gmatch(redis.call('HGET', K.held, id) or '', '%S+') do
    if redis.call('HGET', K.status, seat) == 'HELD' then free_seat(K, seat) end
  end
  return {1, 'left'}
end
