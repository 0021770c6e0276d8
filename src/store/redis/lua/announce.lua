-- Tells what there is of a fetch: 1 somebody waits for it elsewhere or reads it, and is told, 0 nobody does.
-- KEYS: what is told, whether somebody waits elsewhere. ARGV: the value, its lifetime in ms, a channel or nothing, what to say
-- there.
local told = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if told.err then return told end
if not redis.call('GET', KEYS[2]) then return 0 end
if ARGV[3] ~= '' then redis.pcall('PUBLISH', ARGV[3], ARGV[4]) end
return 1
