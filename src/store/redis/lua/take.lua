-- Takes a lease that nobody has: 1 taken, its token if it is somebody else's, 2 what is fetched, or was fetched last, is
-- for nobody else, 3 the same instance has it, which its token begins with: for a lead that is waited for no longer and
-- goes on, or for an attempt whose answer was lost. Neither is waited for, nor robbed of it.
-- KEYS: the lease. ARGV: token, lifetime in ms, the start of all tokens of this instance.
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, #ARGV[3]) == ARGV[3] then return 3 end
if held and string.sub(held, 1, 1) == '-' then return 2 end
if held then return held end
local taken = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if taken.err then return taken end
return 1
