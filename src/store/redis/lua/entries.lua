-- Notes that stored responses were written or used, and takes the least recently used out that are too many: those.
-- KEYS: the list. ARGV: how many there may be, its lifetime in ms, 'NX' to note what was written or 'XX' what was used,
-- how many may be taken out, the responses.
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
for n = 5, #ARGV do
  if ARGV[3] == 'XX' then
    redis.call('ZADD', KEYS[1], 'XX', now, ARGV[n])
  else
    redis.call('ZADD', KEYS[1], now, ARGV[n])
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local over = math.min(redis.call('ZCARD', KEYS[1]) - ARGV[1], ARGV[4])
if over <= 0 then return {} end
local last = redis.call('ZRANGE', KEYS[1], 0, over - 1)
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, over - 1)
return last
