-- Delete a closed event, a slice at a time; at last its keys.
--
-- KEYS  as event
-- ARGV  1 how many at most
-- → {1, 1 where there is more else 0}   {0, NO_EVENT}  {0, WRONG_STATE, state}
local function purge(KEYS, ARGV)
  local K, most, ended = named(KEYS), tonumber(ARGV[1]), 0
  local refused = refusal(K.event, 0, now_ms())
  if refused then return refused end
  local state = redis.call('HGET', K.event, 'state')
  if not state then return {0, 'NO_EVENT'} end
  if state ~= 'closed' and state ~= 'creating' then return {0, 'WRONG_STATE', state} end
  for _, key in ipairs({K.waiting, K.admitted, K.inside}) do
    for _, id in ipairs(redis.call('ZRANGE', key, 0, most - 1)) do
      end_ticket(K, id, 'ended')
      ended = ended + 1
    end
  end
  for _, entry in ipairs(redis.call('XRANGE', K.stream, '-', '+', 'COUNT', most)) do  -- taken by workers
    end_ticket(K, entry[2][2] or '', 'ended')
    redis.call('XDEL', K.stream, entry[1])
    ended = ended + 1
  end
  for _, seat in ipairs(redis.call('ZRANGE', K.holds, 0, most - 1)) do
    free_seat(K, seat)
    ended = ended + 1
  end
  if ended > 0 then return {1, 1} end
  redis.call('UNLINK', unpack(KEYS))
  return {1, 0}
end
