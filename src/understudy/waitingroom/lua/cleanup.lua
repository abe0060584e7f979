-- End what is older than an age, a slice at a time: tickets in the line, and entries of the stream that belong to none.
-- What a worker has taken stays until it is acknowledged.
--
-- KEYS  as event
-- ARGV  1 deadline (ms)  2 age (ms)  3 how many at most
-- → {1, how many, 1 where there may be more else 0}   {0, NO_EVENT | TOO_LATE}
local function cleanup(KEYS, ARGV)
  local now = now_ms()
  local refused = refusal(KEYS[1], ARGV[1], now)
  if refused then return refused end
  local K, before, most = named(KEYS), now - tonumber(ARGV[2]), tonumber(ARGV[3])
  if redis.call('EXISTS', K.event) == 0 then return {0, 'NO_EVENT'} end
  local cleaned = 0
  for _, id in ipairs(redis.call('ZRANGE', K.waiting, 0, most - 1)) do
    if tonumber(redis.call('HGET', K.ticket .. id, 'joined') or 0) >= before then break end
    end_ticket(K, id, 'aged', 'aged')
    cleaned = cleaned + 1
  end
  if cleaned == most then return {1, cleaned, 1} end
  local oldest = redis.call('XPENDING', K.stream, GROUP)[2]
  local line = redis.call('ZRANGE', K.waiting, 0, 0)[1]
  local first = line and redis.call('HGET', K.ticket .. line, 'sid')
  local function ms(sid) return tonumber(string.match(sid, '^%d+')) end
  local stop = math.max(0, math.min(before, oldest and ms(oldest) or before, first and ms(first) or before))
  if stop == 0 then return {1, cleaned, 0} end
  local old = redis.call('XRANGE', K.stream, '-', '(' .. string.format('%.0f', stop) .. '-0', 'COUNT', most)
  if #old == most then stop = math.min(stop, ms(old[most][1]) + 1) end
  local trimmed = redis.call('XTRIM', K.stream, 'MINID', string.format('%.0f', stop) .. '-0')
  return {1, cleaned + trimmed, trimmed > 0 and #old == most and 1 or 0}
end
