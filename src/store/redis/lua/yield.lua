-- Keeps a lease without making others wait for it any longer: 1 so it is, 0 it is lost, 2 it is, and those who wait
-- may not be told, 3 it is, and they are told.
-- KEYS: the lease, whether somebody waits elsewhere. ARGV: token, lifetime in ms, a channel or nothing, what to say there.
local yielded = '-' .. ARGV[1]
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], yielded, 'PX', ARGV[2])
if ARGV[3] == '' or not redis.call('GET', KEYS[2]) then return 1 end
return type(redis.pcall('PUBLISH', ARGV[3], ARGV[4])) == 'table' and 2 or 3
