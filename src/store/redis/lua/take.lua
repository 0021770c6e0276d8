-- Takes a lease that nobody has: 1 taken, 0 somebody else's, 2 what is fetched, or was fetched last, is for nobody else.
-- KEYS: the lease. ARGV: token, lifetime in ms.
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, 1) == '-' then return 2 end
if held then return 0 end
local taken = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if taken.err then return taken end
return 1
