-- What the operations share. This text stands before them in the library, and before each of them as a script.
--
-- Every key of event E carries the hash tag {E}, so that an operation is one slot and one server:
--   event:{E}                hash    settings, state, counters, the token bucket; ticked: ms of the last tick;
--                                    awake: since when they came without a break
--   waiting:{E}              zset    ticket id -> seq: the line; ZRANK is the exact place
--   seen:{E}                 zset    ticket id -> ms of its last sign of life; the members of waiting:{E}
--   admitted:{E}             zset    ticket id -> ms by which it must have entered
--   inside:{E}               zset    ticket id -> ms at which its session ends
--   ticket:{E}:ID            hash    user, state, seq, sid (its stream id), joined, nth (to be called), enter_by, issued, ends
--   stream:event:{E}         stream  an entry for each ticket in the line; group `workers`
--   stream:event:{E}:user:U  stream  an entry for each live ticket of a user, oldest first, ids as above
--   dedupe:{E}:K             string  first answer to the join with key K, for dedupe_ttl; see `remember`
--   answer:{E}:O:ID:K        string  the same for operation O on seats, with key K of ticket ID
--   seat:status:{E}          hash    seat -> AVAILABLE | HELD | SOLD
--   seat:holder:{E}          hash    seat -> ticket id, of seats that are held or sold
--   holds:{E}                zset    seat -> ms at which the hold ends
--   held:{E}                 hash    ticket id -> its seats, held or sold, joined by spaces
--   hold:seat:{E}:S          string  the holder, for as long as the hold lasts: for others to look at, never read here
--   inventory:{E}            string  seats that are AVAILABLE
--
-- A ticket id is a digest of the ticket; the ticket itself, which is a secret, stands only in dedupe:{E}:K.
-- Results are arrays: {1, data…} or {0, 'ERROR_NAME', data…}; an error has changed nothing that it could be about.
-- Keys that an operation finds in the data (other people's tickets) are not declared. They have the event's tag, and
-- nothing is done while the slot is moving: see `refusal`.
local TOMBSTONE_MS = 300000  -- an ended ticket is remembered for so long
local MICRO = 1000000  -- the bucket counts millionths of an admission: ms * thousandths per second
local BREAK_MS = 10000  -- without a tick for so long, nobody looked after the event
local GROUP = 'workers'
-- What no worker is called, for theirs have no spaces: who has tickets that a worker may not have yet, because an
-- earlier one of the same user is not done; and those whose turn has come since.
local ASIDE, NEXT = 'set aside', 'next of a user'

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- The answer with which an operation must be refused before it does anything, or nil.
-- The caller has given up at `deadline` (ms by our clock; 0: never): what comes later must not be done. It is told our
-- time, for behind a proxy it knows no other clock than its own.
-- While a slot moves key by key, some of its keys are here and some are there, and a call with a key that is not here
-- fails in the middle of a function. Two keys that exist nowhere tell: a server answers for them only if it has all.
local function refusal(event, deadline, now)
  deadline = tonumber(deadline)
  if deadline > 0 and now > deadline then return {0, 'TOO_LATE', now} end
  if type(redis.pcall('EXISTS', event .. ':here', event .. ':there')) ~= 'number' then
    return redis.error_reply('TRYAGAIN the slot is moving')
  end
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

-- Since when somebody has been looking after the event: silence during a break (no gateway, no server, a clock set
-- forward) is nobody's fault, and whoever had time left when it began gets all of it again.
local function awake_since(ticked, awake, now)
  if now - tonumber(ticked) > BREAK_MS then return now end
  return math.min(tonumber(awake), now)
end

-- Take a ticket out of the line and out of what workers are given.
local function take_from_line(K, id, sid)
  redis.call('ZREM', K.waiting, id)
  redis.call('ZREM', K.seen, id)
  redis.call('XACK', K.stream, GROUP, sid)
  redis.call('XDEL', K.stream, sid)
end

-- End a ticket wherever it stands, and remember for a while how it ended.
local function end_ticket(K, id, state, counter)
  local ticket = redis.call('HMGET', K.ticket .. id, 'user', 'sid')
  take_from_line(K, id, ticket[2] or '0-0')
  redis.call('ZREM', K.admitted, id)
  redis.call('ZREM', K.inside, id)
  if not ticket[1] then return end
  local stream = K.user .. ticket[1]
  redis.call('XDEL', stream, ticket[2])
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if not first then
    redis.call('UNLINK', stream)
  elseif redis.call('XPENDING', K.stream, GROUP, first[1], first[1], 1, ASIDE)[1] then
    redis.call('XCLAIM', K.stream, GROUP, NEXT, 0, first[1], 'JUSTID')
  end
  redis.call('HSET', K.ticket .. id, 'state', state)
  redis.call('PEXPIRE', K.ticket .. id, TOMBSTONE_MS)
  if counter then redis.call('HINCRBY', K.event, counter, 1) end
end

-- Give a held seat back.
local function free_seat(K, seat)
  local holder = redis.call('HGET', K.holder, seat)
  redis.call('HSET', K.status, seat, 'AVAILABLE')
  redis.call('HDEL', K.holder, seat)
  redis.call('ZREM', K.holds, seat)
  redis.call('UNLINK', K.hold .. seat)
  redis.call('INCR', K.inventory)
  local left = {}
  for other in string.gmatch(redis.call('HGET', K.held, holder or '') or '', '%S+') do
    if other ~= seat then left[#left + 1] = other end
  end
  if #left > 0 then
    redis.call('HSET', K.held, holder, table.concat(left, ' '))
  else
    redis.call('HDEL', K.held, holder or '')
  end
end

-- Those of some seats whose hold is over.
local function free_over(K, now, seats, from)
  for at = from, #seats do
    local ends = redis.call('ZSCORE', K.holds, seats[at])
    if ends and tonumber(ends) <= now then free_seat(K, seats[at]) end
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
  local e, missed = redis.call('HMGET', K.event, 'entry_ms', 'ticked', 'awake'), {}
  if awake_since(e[2], e[3], now) + tonumber(e[1]) <= now then
    missed = redis.call('ZRANGEBYSCORE', K.admitted, '-inf', now, 'LIMIT', 0, most)
  end
  for _, id in ipairs(missed) do end_ticket(K, id, 'expired', 'expired') end
  local over = redis.call('ZRANGEBYSCORE', K.inside, '-inf', now, 'LIMIT', 0, most)
  for _, id in ipairs(over) do end_ticket(K, id, 'ended', 'ended') end
  return #missed == most or #over == most
end

-- The ms before which a ticket in the line must have been silent to be abandoned: -1 for none.
local function silent_before(K, now)
  local e = redis.call('HMGET', K.event, 'abandon_ms', 'ticked', 'awake')
  local before = now - tonumber(e[1])
  return e[1] ~= '0' and awake_since(e[2], e[3], now) < before and before or -1
end

-- Tickets in the line that gave no sign of life for too long; returns whether there may be more.
local function end_abandoned(K, now, most)
  local gone = redis.call('ZRANGEBYSCORE', K.seen, '-inf', silent_before(K, now) - 1, 'LIMIT', 0, most)
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
  local e = redis.call('HMGET', K.event, 'max_inside', 'entry_ms', 'called', 'rate')
  if state ~= 'open' or e[4] == '0' then return false end
  local room = most
  if tonumber(e[1]) > 0 then
    room = tonumber(e[1]) - redis.call('ZCARD', K.admitted) - redis.call('ZCARD', K.inside)
  end
  local can = math.min(most, math.floor(tokens / MICRO), room)
  if can <= 0 then return false end
  local called, enter_by, silent = 0, now + tonumber(e[2]), silent_before(K, now)
  local front = redis.call('ZRANGE', K.waiting, 0, can - 1)
  for _, id in ipairs(front) do
    local sid = redis.call('HGET', K.ticket .. id, 'sid')
    if not sid or tonumber(redis.call('ZSCORE', K.seen, id) or now) < silent then
      end_ticket(K, id, 'abandoned', 'abandoned')
    else
      called = called + 1
      take_from_line(K, id, sid)
      redis.call('ZADD', K.admitted, enter_by, id)
      redis.call('HSET', K.ticket .. id, 'state', 'admitted', 'enter_by', enter_by, 'nth', tonumber(e[3]) + called)
    end
  end
  if called > 0 then
    redis.call('HSET', K.event, 'tokens', tokens - called * MICRO)
    redis.call('HINCRBY', K.event, 'called', called)
  end
  return #front == can and (can == most or called < can)
end

-- What place_of wants to know of the event; nothing where there is none.
local function event_for_places(K, now)
  local e = redis.call('HMGET', K.event, 'state', 'rate', 'called', 'abandon_ms', 'entry_ms', 'ticked', 'awake')
  if not e[1] then return nil end
  return {
    state = e[1], rate = tonumber(e[2]), called = tonumber(e[3]), abandon = tonumber(e[4]),
    expires_from = awake_since(e[6], e[7], now) + tonumber(e[5]), waiting = redis.call('ZCARD', K.waiting),
  }
end

-- Where a ticket stands; its fields are state, enter_by, ends.
local function place_of(K, id, fields, event, now)
  local state, position, enter_within, seen_ago = fields[1], 0, 0, 0
  if state == 'waiting' then
    position = (redis.call('ZRANK', K.waiting, id) or -1) + 1
    seen_ago = math.max(0, now - tonumber(redis.call('ZSCORE', K.seen, id) or now))
  elseif state == 'admitted' then
    enter_within = math.max(tonumber(fields[2]), event.expires_from) - now
    if enter_within <= 0 then state, enter_within = 'expired', 0 end
  elseif state == 'inside' and tonumber(fields[3]) <= now then
    state = 'ended'
  end
  return {
    state, event.state, position, event.waiting, event.rate, event.called, enter_within, seen_ago, event.abandon,
  }
end

-- The first answer to the request with this key, as words; nil where there is none.
-- `made` is when the event was made: one of the same name that was deleted before is another.
local function kept(key, made)
  local words = {}
  for word in string.gmatch(redis.call('GET', key) or '', '[^\n]+') do words[#words + 1] = word end
  return words[1] == made and words or nil
end

-- The array to answer a repeated request with; nil where it is none.
local function replay(key, made, digest)
  local words = kept(key, made)
  if not words then return nil end
  if words[2] ~= digest then return {0, 'IDEMPOTENCY_CONFLICT'} end
  local answer = {1, unpack(words, 3)}
  answer[#answer + 1] = 'replayed'
  return answer
end

-- Keep an answer: the event's making, the digest of the request ('-' where the key may be used but once), the data.
local function remember(key, made, digest, ttl_ms, answer)
  redis.call('SET', key, made .. '\n' .. digest .. '\n' .. table.concat(answer, '\n'), 'PX', ttl_ms)
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
