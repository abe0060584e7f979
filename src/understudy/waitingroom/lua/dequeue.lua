-- Take tickets from the front of the line for a worker, which acknowledges each: first those that another worker took
-- and did not acknowledge in time, then new ones, which it gets only while the event is open. A user's tickets come one
-- at a time, in their order: one whose predecessor is not done is set aside, and its turn comes when that is.
--
-- KEYS  as event
-- ARGV  1 deadline (ms)  2 consumer  3 how many at most  4 ms without acknowledgement after which a ticket is given again
-- → {1, {stream id, ticket id, user, how often it was given}…}   {0, NO_EVENT | TOO_LATE}
local function dequeue(KEYS, ARGV)
  local now = now_ms()
  local refused = refusal(KEYS[1], ARGV[1], now)
  if refused then return refused end
  local K, consumer, most, idle = named(KEYS), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
  local e = redis.call('HMGET', K.event, 'state', 'claim_from')
  if not e[1] then return {0, 'NO_EVENT'} end
  local given = {}

  local function give(entry)
    local sid, id = entry[1], entry[2][2] or ''
    local ticket = redis.call('HMGET', K.ticket .. id, 'sid', 'user')
    if ticket[1] ~= sid then  -- somebody else's entry, of no ticket
      redis.call('XACK', K.stream, GROUP, sid)
      redis.call('XDEL', K.stream, sid)
    elseif redis.call('XRANGE', K.user .. ticket[2], '-', '+', 'COUNT', 1)[1][1] ~= sid then
      redis.call('XCLAIM', K.stream, GROUP, ASIDE, 0, sid, 'JUSTID')
    else
      redis.call('ZREM', K.waiting, id)
      redis.call('ZREM', K.seen, id)
      redis.call('HSET', K.ticket .. id, 'state', 'serving')
      given[#given + 1] = {sid, id, ticket[2], redis.call('HINCRBY', K.ticket .. id, 'deliveries', 1)}
    end
  end

  local claimed = redis.call('XAUTOCLAIM', K.stream, GROUP, consumer, idle, e[2] or '0-0', 'COUNT', most)
  redis.call('HSET', K.event, 'claim_from', claimed[1])
  for _, entry in ipairs(claimed[2]) do
    if entry then give(entry) end
  end
  if #given < most then
    for _, waits in ipairs(redis.call('XPENDING', K.stream, GROUP, '-', '+', most - #given, NEXT)) do
      local entry = redis.call('XCLAIM', K.stream, GROUP, consumer, 0, waits[1])[1]
      if entry then give(entry) end
    end
  end
  for _ = 1, 10 do  -- rounds: some are set aside
    if #given == most or e[1] ~= 'open' then break end
    local fresh = redis.call('XREADGROUP', 'GROUP', GROUP, consumer, 'COUNT', most - #given, 'STREAMS', K.stream, '>')
    if not fresh then break end
    for _, entry in ipairs(fresh[1][2]) do give(entry) end
  end
  table.insert(given, 1, 1)
  return given
end
