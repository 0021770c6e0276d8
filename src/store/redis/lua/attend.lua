-- What is told of a fetch, and 1 if its lease is held and not yielded, 0 if not; that alone where nothing is told. Whoever
-- fetches it tells from now on that there is something new.
-- KEYS: the lease, what is told, whether somebody waits elsewhere. ARGV: token, for how many ms that is known, octets of
-- the value at the most, but for one by which too long a one is known.
local told = redis.call('GETRANGE', KEYS[2], 0, ARGV[3])
local is_held = redis.call('GET', KEYS[1]) == ARGV[1] and 1 or 0
if told == '' and is_held == 0 then return 0 end
redis.pcall('SET', KEYS[3], '1', 'PX', ARGV[2])
if told == '' then return 1 end
return { told, is_held }
