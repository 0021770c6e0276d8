-- Gives a lease back without a write: 1 given back, 0 it was lost already, 2 given back, and those who wait may not be
-- told, 3 given back, and they are told.
-- KEYS: the lease, the cell of the key, the failure, whether somebody waits elsewhere, and what is told of the fetch, if it
-- is not to be had. ARGV: token, a channel or nothing, what to say there, for how many ms the others need not wait for each
-- other (0: the next takes over), a marker for the cell or nothing, its lifetime in ms, a failure of the service, '-' if it
-- has answered, or nothing, the failure's lifetime in ms.
local yielded = '-' .. ARGV[1]
if KEYS[5] then redis.call('UNLINK', KEYS[5]) end
local held = redis.call('GET', KEYS[1])
if held ~= ARGV[1] and held ~= yielded then return 0 end
if ARGV[5] ~= '' then redis.pcall('SET', KEYS[2], ARGV[5], 'NX', 'PX', ARGV[6]) end
if ARGV[7] == '-' then redis.call('UNLINK', KEYS[3])
elseif ARGV[7] ~= '' then redis.pcall('SET', KEYS[3], ARGV[7], 'PX', ARGV[8]) end
if ARGV[4] == '0' or redis.pcall('SET', KEYS[1], '-', 'PX', ARGV[4]).err then redis.call('UNLINK', KEYS[1]) end
if ARGV[2] == '' or not redis.call('GET', KEYS[4]) then return 1 end
return type(redis.pcall('PUBLISH', ARGV[2], ARGV[3])) == 'table' and 2 or 3
