#!lua flags=no-writes
-- List the keys of one slot, and what the node that runs this says about itself, in one atomic step.
-- KEYS   [1] any name of that slot: it brings the script to the node that serves it
-- ARGV   [1] the slot; [2] the most names to return
-- Result the names; the node's own line of CLUSTER NODES (does it serve the slot, or is it on its way?)
local nodes = redis.call('CLUSTER', 'NODES')
if type(nodes) == 'table' then nodes = nodes.txt or nodes[1] end
local myself = ''
for line in string.gmatch(nodes, '[^\n]+') do
  if string.find(line, 'myself', 1, true) then myself = line end
end
return {redis.call('CLUSTER', 'GETKEYSINSLOT', ARGV[1], ARGV[2]), myself}
