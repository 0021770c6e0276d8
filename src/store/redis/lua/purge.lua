-- Records purges under numbers that no purge has had: the first of them, the name of the floor, and the highest number before.
-- KEYS: the purge clock. ARGV: the highest number known to the caller, a name for the floor of a new clock, the clock's
-- lifetime in ms, records at the most, a floor to raise it to, a channel, what was purged.
local function text(number) return string.format('%.0f', number) end
if is_junk then
  redis.call('UNLINK', clock)
  top = {}
end
local time = redis.call('TIME')
local next = math.max(time[1] * 1000000 + time[2], (tonumber(top[2]) or 0) + 1, ARGV[1] + 1)
if not top[2] then
  -- One that was lost is made anew: whatever was stored before is taken for purged.
  redis.call('ZADD', clock, text(next), ARGV[2])
  next = next + 1
end
local first, before = next, next - 1
if top[2] then before = tonumber(top[2]) end
for i = 7, #ARGV do
  redis.call('ZADD', clock, text(next), ARGV[i])
  next = next + 1
end
bottom = redis.call('ZRANGE', clock, 0, 0, 'WITHSCORES')
local floor = tonumber(ARGV[5])
local surplus = redis.call('ZCARD', clock) - 1 - ARGV[4]
if surplus > 0 then
  floor = math.max(floor, tonumber(redis.call('ZRANGE', clock, surplus, surplus, 'WITHSCORES')[2]))
end
if floor > tonumber(bottom[2]) then
  redis.call('ZREMRANGEBYSCORE', clock, '-inf', text(floor))
  redis.call('ZADD', clock, text(floor), bottom[1])
end
redis.call('PEXPIRE', clock, ARGV[3])
redis.pcall('PUBLISH', ARGV[6], text(next - 1))
return { text(first), bottom[1], text(before) }
