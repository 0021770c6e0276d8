-- Tells what there is of a fetch: 1 somebody reads it elsewhere, 0 nobody does.
-- KEYS: what is told, whether somebody reads it. ARGV: the value, its lifetime in ms, a channel or nothing, what to say
-- there.
local told = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if told.err then return told end
if ARGV[3] ~= '' then redis.pcall('PUBLISH', ARGV[3], ARGV[4]) end
if redis.call('GETRANGE', KEYS[2], 0, 0) ~= '' then return 1 end
return 0
