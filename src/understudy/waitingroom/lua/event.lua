-- An event as it stands. Reads only.
--
-- KEYS  1 event:{E}  2 waiting:{E}  3 seen:{E}  4 admitted:{E}  5 inside:{E}  6 stream:event:{E}
--       7 seat:status:{E}  8 seat:holder:{E}  9 holds:{E}  10 held:{E}  11 inventory:{E}
-- ARGV  none
-- → {1, fields of event:{E}, {waiting, admitted, inside, held, seats left, stream length, pending}, now (ms)}
--   {0, NO_EVENT}
local function event(KEYS, ARGV)
  if redis.call('EXISTS', KEYS[1]) == 0 then return {0, 'NO_EVENT'} end
  return event_as_data(named(KEYS), now_ms())
end
