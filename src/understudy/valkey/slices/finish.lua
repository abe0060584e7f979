-- Give a finished value its name, in one step: with the expiry that it is to have, or none.
-- KEYS   [1] the temporary name; [2] the key
-- ARGV   [1] when it expires, in milliseconds since 1970, or 0 for never; [2] 1 to replace what stands there, else 0
-- Result 'gone' (nothing is under the temporary name), 'exists', 'expired' or 'written'
local call = redis.call
if call('EXISTS', KEYS[1]) == 0 then return 'gone' end
if ARGV[2] == '0' and call('EXISTS', KEYS[2]) == 1 then
  call('UNLINK', KEYS[1])
  return 'exists'
end
if ARGV[1] == '0' then
  call('PERSIST', KEYS[1])
else
  call('PEXPIREAT', KEYS[1], ARGV[1])
  if call('EXISTS', KEYS[1]) == 0 then return 'expired' end
end
call('RENAME', KEYS[1], KEYS[2])
return 'written'
