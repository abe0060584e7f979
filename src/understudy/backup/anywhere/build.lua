-- Build a key with commands in one step: nobody sees half of it, and where one fails all is as it was.
-- KEYS   [1] the key; [2] where what stands there is to be replaced: a name beside it, under which it is built
-- ARGV   [1] when it expires, in milliseconds since 1970, or 0 for never; then for each command the number of its words,
--        and the words, which name the place where it is built
-- Result 'exists', 'expired' (nothing is left of it) or 'written'; or the error of the command that failed
local key, place = KEYS[1], KEYS[#KEYS]
if place == key and redis.call('EXISTS', key) == 1 then return 'exists' end
local at = 2
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  local reply = redis.pcall(unpack(ARGV, at + 1, at + words))
  if type(reply) == 'table' and reply.err then
    redis.call('DEL', place)
    return reply
  end
  at = at + words + 1
end
if ARGV[1] ~= '0' then redis.call('PEXPIREAT', place, ARGV[1]) end
if redis.call('EXISTS', place) == 0 then return 'expired' end
if place ~= key then redis.call('RENAME', place, key) end
return 'written'
