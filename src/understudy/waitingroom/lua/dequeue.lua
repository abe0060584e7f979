-- Take tickets from the front of the line for a worker, which acknowledges each: first those that another worker took
-- and did not acknowledge in time, then new ones. A user's tickets come one at a time, in their order: one whose
-- predecessor is not acknowledged is set aside (for the consumer `aside`) until it is.
--
-- KEYS  as event
-- ARGV  1 deadline (ms)  2 consumer  3 how many at most  4 ms without acknowledgement after which a ticket is given again
-- → {1, {stream id, ticket id, user, how often it was given}…}   {0, NO_EVENT | EVENT_NOT_OPEN | TOO_LATE}
local ASIDE = 'aside'

local function dequeue(KEYS, ARGV)
  local now = now_ms()
  if late(ARGV[1], now) then return {0, 'TOO_LATE'} end
  local K, consumer, most, idle = named(KEYS), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
  local e = redis.call('HMGET', K.event, 'state', 'claim_from')
  if not e[1] then return {0, 'NO_EVENT'} end
  local answer = {1}

  local function give(entry)
    local sid, id, user = entry[1], entry[2][2], entry[2][4]
    local first = redis.call('XRANGE', K.user .. user, '-', '+', 'COUNT', 1)[1]
    if first and first[1] ~= sid then
      redis.call('XCLAIM', K.stream, GROUP, ASIDE, 0, sid, 'JUSTID')
      return
    end
    redis.call('ZREM', K.waiting, id)
    redis.call('ZREM', K.seen, id)
    redis.call('HSET', K.ticket .. id, 'state', 'serving', 'worker', consumer)
    answer[#answer + 1] = {sid, id, user, redis.call('HINCRBY', K.ticket .. id, 'deliveries', 1)}
  end

  local claimed = redis.call('XAUTOCLAIM', K.stream, GROUP, consumer, idle, e[2] or '0-0', 'COUNT', most)
  redis.call('HSET', K.event, 'claim_from', claimed[1])
  for _, entry in ipairs(claimed[2]) do
    if entry then give(entry) end
  end
  if #answer <= most then
    for _, waits in ipairs(redis.call('XPENDING', K.stream, GROUP, '-', '+', most, ASIDE)) do
      local entry = #answer <= most and redis.call('XCLAIM', K.stream, GROUP, consumer, 0, waits[1])[1]
      if entry then give(entry) end
    end
  end
  for _ = 1, 10 do
    if #answer > most or e[1] ~= 'open' then break end
    local fresh = redis.call('XREADGROUP', 'GROUP', GROUP, consumer, 'COUNT', most + 1 - #answer, 'STREAMS', K.stream, '>')
    if not fresh then break end
    for _, entry in ipairs(fresh[1][2]) do give(entry) end
  end
  return answer
end
