#!lua flags=no-writes,allow-cross-slot-keys
-- As dump_many.lua, and how long or how often each key was used: asked first, for DUMP is a use.
-- KEYS   none: the keys may be of any slot that this node serves
-- ARGV   [1] the budget in bytes; [2] IDLETIME or FREQ; [3…] the names of the keys
-- Result a flat array, three elements a key in the order of ARGV:
--        payload, expiry, rank   what DUMP, PEXPIRETIME and OBJECT say
--        nil, -2, 0              the key does not exist
--        nil, nil, nil           not read any more: the budget was spent; ask again
local call, left, what, out, n = redis.call, tonumber(ARGV[1]), ARGV[2], {}, 0
for i = 3, #ARGV do
  local payload, expiry, rank = false, false, false
  if left > 0 then
    rank = call('OBJECT', what, ARGV[i]) or 0
    payload, expiry = call('DUMP', ARGV[i]), -2
    if payload then
      left = left - #payload
      expiry = call('PEXPIRETIME', ARGV[i])
    end
  end
  out[n + 1], out[n + 2], out[n + 3] = payload, expiry, rank
  n = n + 3
end
return out
