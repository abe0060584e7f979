#!lua flags=no-writes,allow-cross-slot-keys
-- DUMP many keys of one node in one step, without ever holding much more than a budget of bytes.
-- KEYS   none: the keys may be of any slot that this node serves
-- ARGV   [1] the budget in bytes; [2…] the names of the keys
-- Result a flat array, two elements a key in the order of ARGV:
--        payload, expiry      what DUMP and PEXPIRETIME say (expiry -1: none)
--        nil, -2              the key does not exist
--        nil, nil             not read any more: the budget was spent; ask again
local call, left, out = redis.call, tonumber(ARGV[1]), {}
for i = 2, #ARGV do
  local payload, expiry = false, false
  if left > 0 then
    payload, expiry = call('DUMP', ARGV[i]), -2
    if payload then
      left = left - #payload
      expiry = call('PEXPIRETIME', ARGV[i])
    end
  end
  out[2 * i - 3], out[2 * i - 2] = payload, expiry
end
return out
