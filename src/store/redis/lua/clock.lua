-- What there is of the purge clock: the name of its floor, the floor, the highest number, records and their numbers; or
-- nothing, where something has to be written first and may not be.
-- KEYS: the purge clock. ARGV: the highest number known to the caller, a name for the floor of a new clock, the clock's
-- lifetime in ms, the number after which records are wanted, how many at the most, how the name of the floor begins of a
-- clock that is to be replaced, or nothing, and 'w' if it may write.
local writes = ARGV[7] == 'w'
local is_replaced = ARGV[6] ~= '' and bottom[1] and string.sub(bottom[1], 1, #ARGV[6]) == ARGV[6]
if is_junk then top = {} end
if not top[2] or is_replaced then
  -- One that was lost is made anew: whatever was stored before is taken for purged.
  if not writes then return false end
  local time = redis.call('TIME')
  local floor = math.max(time[1] * 1000000 + time[2], (tonumber(top[2]) or 0) + 1, ARGV[1] + 1)
  floor = string.format('%.0f', floor)
  redis.call('UNLINK', clock)
  redis.call('ZADD', clock, floor, ARGV[2])
  redis.call('PEXPIRE', clock, ARGV[3])
  return { ARGV[2], floor, floor, {} }
end
if redis.call('PTTL', clock) < ARGV[3] / 2 then
  if not writes then return false end
  redis.pcall('PEXPIRE', clock, ARGV[3])
end
local records = redis.call('ZRANGEBYSCORE', clock, '(' .. ARGV[4], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[5])
return { bottom[1], bottom[2], top[2], records }
