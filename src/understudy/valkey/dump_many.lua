#!lua flags=no-writes,allow-cross-slot-keys
-- DUMP many keys of one node in one step, without ever holding much more than a budget of bytes.
-- KEYS   none: the keys may be of any slot that this node serves
-- ARGV   [1] the budget in bytes; [2] the most memory that a key may take, 0 for any; [3…] the names of the keys
-- Result a flat array, two elements a key in the order of ARGV:
--        payload, expiry      what DUMP and PEXPIRETIME say (expiry -1: none)
--        nil, -2              the key does not exist
--        nil, -3              it takes more memory: not read
--        nil, nil             not read any more: the budget was spent; ask again
local call, left, most, out = redis.call, tonumber(ARGV[1]), tonumber(ARGV[2]), {}
local keyspace = redis.pcall('INFO', 'keyspace') -- once, where no key expires, instead of asking each key
local timeless = type(keyspace) == 'string' and not string.find(keyspace, 'expires=[1-9]')
for i = 3, #ARGV do
  local payload, expiry = false, false
  if left > 0 then
    if most > 0 and (call('MEMORY', 'USAGE', ARGV[i]) or 0) > most then
      expiry = -3
    else
      payload, expiry = call('DUMP', ARGV[i]), -2
      if payload then
        left = left - #payload
        expiry = timeless and -1 or call('PEXPIRETIME', ARGV[i])
      end
    end
  end
  out[2 * i - 5], out[2 * i - 4] = payload, expiry
end
return out
