-- Renews a lease, yielded or not: 1 renewed, 0 it is lost. What is told of the fetch is renewed in any case: those who read
-- it are to have it to the end.
-- KEYS: the lease, what is told. ARGV: token, lifetime in ms.
redis.call('PEXPIRE', KEYS[2], ARGV[2])
local yielded = '-' .. ARGV[1]
local held = redis.call('GET', KEYS[1])
if held ~= ARGV[1] and held ~= yielded then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
