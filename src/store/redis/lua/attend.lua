-- What is told of a fetch, and 1 if its lease is held and not yielded, 0 if not; nothing if nothing is told.
-- KEYS: the lease, what is told, whether somebody reads it. ARGV: token, for how many ms that is known, octets of the value
-- at the most, but for one by which too long a one is known.
local told = redis.call('GETRANGE', KEYS[2], 0, ARGV[3])
if told == '' then return false end
redis.pcall('SET', KEYS[3], '1', 'PX', ARGV[2])
if redis.call('GET', KEYS[1]) == ARGV[1] then return { told, 1 } end
return { told, 0 }
