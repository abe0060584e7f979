-- What the operations share. This text stands before them in the library, and before each of them as a script.
--
-- Every key of event E carries the hash tag {E}, so that an operation is one slot and one server:
--   event:{E}                hash    settings, state, counters, the token bucket
--   waiting:{E}              zset    ticket id -> seq: the line; ZRANK is the exact place
--   seen:{E}                 zset    ticket id -> ms of its last sign of life; the members of waiting:{E}
--   admitted:{E}             zset    ticket id -> ms by which it must have entered
--   inside:{E}               zset    ticket id -> ms at which its session ends
--   ticket:{E}:ID            hash    user, state, seq, sid (its stream id), joined, nth (to be called), enter_by, issued, ends
--   stream:event:{E}         stream  an entry for each ticket in the line; group `workers`
--   stream:event:{E}:user:U  stream  an entry for each live ticket of a user, oldest first, ids as above
--   dedupe:{E}:K             string  digest and first answer of the request with key K, for dedupe_ttl
--   seat:status:{E}          hash    seat -> AVAILABLE | HELD | SOLD
--   seat:holder:{E}          hash    seat -> ticket id, of seats that are held or sold
--   holds:{E}                zset    seat -> ms at which the hold ends
--   held:{E}                 hash    ticket id -> its seats, held or sold, joined by spaces
--   hold:seat:{E}:S          string  the holder, for as long as the hold lasts: for others to look at, never read here
--   inventory:{E}            string  seats that are AVAILABLE
--
-- A ticket id is a digest of the ticket; the ticket itself, which is a secret, stands only in dedupe:{E}:K.
-- Results are arrays: {1, data…} or {0, 'ERROR_NAME', data…}; an error has changed nothing that it could be about.
-- Keys that an operation finds in the data (other people's tickets) are read before anything is written: while a
-- slot is moving they may be elsewhere already, and then that person's turn comes with the next call.
local TOMBSTONE_MS = 300000  -- an ended ticket is remembered for so long
local MICRO = 1000000  -- the bucket counts millionths of an admission: ms * thousandths per second
local GROUP = 'workers'

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- The caller has given up at `deadline` (ms by our clock; 0: never): what comes later must not be done.
local function late(deadline, now)
  deadline = tonumber(deadline)
  return deadline > 0 and now > deadline
end

-- The keys that operations on the line and the seats take, in this order.
local function named(keys)
  local tag = string.sub(keys[1], 7)
  return {
    event = keys[1], waiting = keys[2], seen = keys[3], admitted = keys[4], inside = keys[5], stream = keys[6],
    status = keys[7], holder = keys[8], holds = keys[9], held = keys[10], inventory = keys[11],
    ticket = 'ticket:' .. tag .. ':', user = 'stream:event:' .. tag .. ':user:', hold = 'hold:seat:' .. tag .. ':',
  }
end

-- Take a ticket out of the line, the room and the streams, and remember for a while how it ended.
-- False, and nothing done, where its keys are not here (the slot is moving).
local function end_ticket(K, id, state, counter)
  local ticket = redis.pcall('HMGET', K.ticket .. id, 'user', 'sid', 'state')
  if ticket.err then return false end
  if ticket[1] and type(redis.pcall('EXISTS', K.user .. ticket[1])) ~= 'number' then return false end
  redis.call('ZREM', K.waiting, id)
  redis.call('ZREM', K.seen, id)
  redis.call('ZREM', K.admitted, id)
  redis.call('ZREM', K.inside, id)
  if not ticket[1] then return true end
  if ticket[3] == 'serving' then redis.call('XACK', K.stream, GROUP, ticket[2]) end
  redis.call('XDEL', K.stream, ticket[2])
  redis.call('XDEL', K.user .. ticket[1], ticket[2])
  if redis.call('XLEN', K.user .. ticket[1]) == 0 then redis.call('UNLINK', K.user .. ticket[1]) end
  redis.call('HSET', K.ticket .. id, 'state', state)
  redis.call('PEXPIRE', K.ticket .. id, TOMBSTONE_MS)
  if counter then redis.call('HINCRBY', K.event, counter, 1) end
  return true
end

-- Give a held seat back.
local function free_seat(K, seat)
  local holder = redis.call('HGET', K.holder, seat)
  redis.call('HSET', K.status, seat, 'AVAILABLE')
  redis.call('HDEL', K.holder, seat)
  redis.call('ZREM', K.holds, seat)
  redis.call('INCR', K.inventory)
  if not holder then return end
  local left = {}
  for other in string.gmatch(redis.call('HGET', K.held, holder) or '', '%S+') do
    if other ~= seat then left[#left + 1] = other end
  end
  if #left > 0 then
    redis.call('HSET', K.held, holder, table.concat(left, ' '))
  else
    redis.call('HDEL', K.held, holder)
  end
end

-- Holds whose time is over, oldest first; returns whether there may be more.
local function free_expired(K, now, most)
  local over = redis.call('ZRANGEBYSCORE', K.holds, '-inf', now, 'LIMIT', 0, most)
  for _, seat in ipairs(over) do free_seat(K, seat) end
  return #over == most
end

-- Tickets that were called and did not come, and sessions that are over; returns whether there may be more.
local function end_overdue(K, now, most)
  local missed = redis.call('ZRANGEBYSCORE', K.admitted, '-inf', now, 'LIMIT', 0, most)
  for _, id in ipairs(missed) do end_ticket(K, id, 'expired', 'expired') end
  local over = redis.call('ZRANGEBYSCORE', K.inside, '-inf', now, 'LIMIT', 0, most)
  for _, id in ipairs(over) do end_ticket(K, id, 'ended', 'ended') end
  return #missed == most or #over == most
end

-- Tickets in the line that gave no sign of life for too long; returns whether there may be more.
local function end_abandoned(K, now, most)
  local abandon = tonumber(redis.call('HGET', K.event, 'abandon_ms') or 0)
  if abandon == 0 then return false end
  local gone = redis.call('ZRANGEBYSCORE', K.seen, '-inf', now - abandon - 1, 'LIMIT', 0, most)
  for _, id in ipairs(gone) do end_ticket(K, id, 'abandoned', 'abandoned') end
  return #gone == most
end

-- Fill the bucket for the time that has passed. A clock that went back gives nothing, and costs nothing later.
local function fill(K, now)
  local e = redis.call('HMGET', K.event, 'state', 'rate', 'burst', 'tokens', 'filled')
  local tokens = tonumber(e[4])
  if e[1] == 'open' then
    tokens = tokens + math.max(0, now - tonumber(e[5])) * tonumber(e[2])
  end
  local burst = tonumber(e[3]) > 0 and tonumber(e[3]) or math.max(1, math.ceil(tonumber(e[2]) / 1000))
  tokens = math.min(burst * MICRO, tokens)
  redis.call('HSET', K.event, 'tokens', tokens, 'filled', now)
  return tokens, e[1]
end

-- Call the front of the line, as far as the bucket and the room allow; returns whether there may be more.
local function admit(K, now, most)
  local tokens, state = fill(K, now)
  if state ~= 'open' then return false end
  local e = redis.call('HMGET', K.event, 'max_inside', 'entry_ms', 'abandon_ms', 'called')
  local room = most
  if tonumber(e[1]) > 0 then
    room = tonumber(e[1]) - redis.call('ZCARD', K.admitted) - redis.call('ZCARD', K.inside)
  end
  local can = math.min(most, math.floor(tokens / MICRO), room)
  if can <= 0 then return false end
  local called, abandon = 0, tonumber(e[3])
  local front = redis.call('ZRANGE', K.waiting, 0, can - 1)
  for _, id in ipairs(front) do
    local seen = tonumber(redis.call('ZSCORE', K.seen, id) or now)
    if abandon > 0 and now - seen > abandon then
      if not end_ticket(K, id, 'abandoned', 'abandoned') then break end
    else
      local sid = redis.pcall('HGET', K.ticket .. id, 'sid')
      if type(sid) ~= 'string' then break end
      redis.call('ZREM', K.waiting, id)
      redis.call('ZREM', K.seen, id)
      redis.call('XDEL', K.stream, sid)
      redis.call('ZADD', K.admitted, now + tonumber(e[2]), id)
      called = called + 1
      redis.call('HSET', K.ticket .. id, 'state', 'admitted', 'enter_by', now + tonumber(e[2]),
        'nth', tonumber(e[4]) + called)
    end
  end
  if called > 0 then
    redis.call('HSET', K.event, 'tokens', tokens - called * MICRO)
    redis.call('HINCRBY', K.event, 'called', called)
  end
  return #front == can and (can == most or called < can)
end

-- Where a ticket stands; its fields are state, enter_by, ends.
local function place_of(K, id, fields, event, now)
  local state, position, enter_within, seen_ago = fields[1], 0, 0, 0
  if state == 'waiting' then
    position = (redis.call('ZRANK', K.waiting, id) or -1) + 1
    seen_ago = math.max(0, now - tonumber(redis.call('ZSCORE', K.seen, id) or now))
  elseif state == 'admitted' then
    enter_within = tonumber(fields[2]) - now
    if enter_within <= 0 then state, enter_within = 'expired', 0 end
  elseif state == 'inside' and tonumber(fields[3]) <= now then
    state = 'ended'
  end
  return {
    state, event[1], position, redis.call('ZCARD', K.waiting), tonumber(event[2]), tonumber(event[3]),
    enter_within, seen_ago, tonumber(event[4]),
  }
end

-- What place_of wants to know of the event.
local function event_for_places(K)
  return redis.call('HMGET', K.event, 'state', 'rate', 'called', 'abandon_ms')
end

-- The first answer to the request with this key: nil where there is none, else the array to answer with.
local function remembered(key, digest)
  local kept = redis.call('GET', key)
  if not kept then return nil end
  local words = {}
  for word in string.gmatch(kept, '[^\n]+') do words[#words + 1] = word end
  if words[1] ~= digest then return {0, 'IDEMPOTENCY_CONFLICT'} end
  words[1] = 1
  words[#words + 1] = 'replayed'
  return words
end

local function remember(key, digest, ttl_ms, answer)
  redis.call('SET', key, digest .. '\n' .. table.concat(answer, '\n'), 'PX', ttl_ms)
end

-- The event's settings, state and counters, and how many there are of what.
local function event_as_data(K, now)
  local counts = {
    redis.call('ZCARD', K.waiting), redis.call('ZCARD', K.admitted), redis.call('ZCARD', K.inside),
    redis.call('ZCARD', K.holds), tonumber(redis.call('GET', K.inventory) or 0), redis.call('XLEN', K.stream),
    redis.call('XPENDING', K.stream, GROUP)[1],
  }
  return {1, redis.call('HGETALL', K.event), counts, now}
end
