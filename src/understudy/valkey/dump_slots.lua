#!lua flags=no-writes,allow-cross-slot-keys
-- List and DUMP whole slots of one node in one atomic step, within a budget of bytes.
-- KEYS   none: the slots are named as arguments
-- ARGV   [1] the budget in bytes; [2] the most names a slot; [3] the most memory that a key may take, 0 for any; then,
--        for each slot, its number and an unused name of it
-- Result a flat array, three elements a key: name, payload, expiry, the latter two as in dump_many.lua.
--        The whole script fails where this node does not serve one of the slots, or a slot is on its way to another
--        node: the server refuses the unused name then (it is not here, and the slot is not settled).
local call, left, most, out, n = redis.call, tonumber(ARGV[1]), tonumber(ARGV[3]), {}, 0
local keyspace = redis.pcall('INFO', 'keyspace') -- once, where no key expires, instead of asking each key
local timeless = type(keyspace) == 'string' and not string.find(keyspace, 'expires=[1-9]')
for i = 4, #ARGV, 2 do
  call('EXISTS', ARGV[i + 1])
  local names = call('CLUSTER', 'GETKEYSINSLOT', ARGV[i], ARGV[2])
  for j = 1, #names do
    local payload, expiry = false, false
    if left > 0 then
      if most > 0 and (call('MEMORY', 'USAGE', names[j]) or 0) > most then
        expiry = -3
      else
        payload, expiry = call('DUMP', names[j]), -2
        if payload then
          left = left - #payload
          expiry = timeless and -1 or call('PEXPIRETIME', names[j])
        end
      end
    end
    out[n + 1], out[n + 2], out[n + 3] = names[j], payload, expiry
    n = n + 3
  end
end
return out
