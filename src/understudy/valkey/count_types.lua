-- Count the keys of the selected database by type, some thousands a call.
-- KEYS   none
-- ARGV   [1] SCAN's cursor; [2] how many pages of a thousand names to look at, at most
-- Result a flat array: the next cursor ("0": done), then type, keys, type, keys, …
local cursor, counts = ARGV[1], {}
for _ = 1, tonumber(ARGV[2]) do
  local page = redis.call('SCAN', cursor, 'COUNT', 1000)
  cursor = page[1]
  for _, name in ipairs(page[2]) do
    local kind = redis.call('TYPE', name).ok
    counts[kind] = (counts[kind] or 0) + 1
  end
  if cursor == '0' then
    break
  end
end
local out = {cursor}
for kind, number in pairs(counts) do
  out[#out + 1], out[#out + 2] = kind, number
end
return out
