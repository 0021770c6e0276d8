-- Renews a lease, yielded or not: 1 renewed, 0 it is lost.
-- KEYS: the lease. ARGV: token, lifetime in ms.
local yielded = '-' .. ARGV[1]
local held = redis.call('GET', KEYS[1])
if held ~= ARGV[1] and held ~= yielded then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
