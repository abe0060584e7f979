#!lua flags=no-writes,allow-cross-slot-keys
-- As dump_many.lua, and how long or how often each key was used: asked first, for DUMP is a use.
-- KEYS   none: the keys may be of any slot that this node serves
-- ARGV   [1] the budget in bytes; [2] the most memory that a key may take, 0 for any; [3] IDLETIME or FREQ;
--        [4…] the names of the keys
-- Result a flat array, three elements a key in the order of ARGV:
--        payload, expiry, rank   what DUMP, PEXPIRETIME and OBJECT say
--        nil, -2, 0              the key does not exist
--        nil, -3, nil            it takes more memory: not read
--        nil, nil, nil           not read any more: the budget was spent; ask again
local call, left, most, what, out, n = redis.call, tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], {}, 0
local keyspace = redis.pcall('INFO', 'keyspace') -- once, where no key expires, instead of asking each key
local timeless = type(keyspace) == 'string' and not string.find(keyspace, 'expires=[1-9]')
for i = 4, #ARGV do
  local payload, expiry, rank = false, false, false
  if left > 0 then
    if most > 0 and (call('MEMORY', 'USAGE', ARGV[i]) or 0) > most then
      expiry = -3
    else
      rank = call('OBJECT', what, ARGV[i]) or 0
      payload, expiry = call('DUMP', ARGV[i]), -2
      if payload then
        left = left - #payload
        expiry = timeless and -1 or call('PEXPIRETIME', ARGV[i])
      end
    end
  end
  out[n + 1], out[n + 2], out[n + 3] = payload, expiry, rank
  n = n + 3
end
return out
