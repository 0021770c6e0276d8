-- Takes a lease that nobody else has: 1 taken, 0 somebody else's, 2 what is fetched, or was fetched last, is for nobody
-- else. In one process there is one lead for a key: a lease of the same instance, which its token begins with, is left
-- over from a lead before it, or from an attempt whose answer was lost, and nobody need wait for it.
-- KEYS: the lease. ARGV: token, lifetime in ms, the start of all tokens of this instance.
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, #ARGV[3]) == ARGV[3] then held = false end
if held and string.sub(held, 1, 1) == '-' then return 2 end
if held then return 0 end
local taken = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if taken.err then return taken end
return 1
