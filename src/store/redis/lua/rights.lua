-- Which of the commands that the other scripts use this user may not run, and the server's time in ms.
-- KEYS: a key of its own, which is gone afterwards.
local key, missing = KEYS[1], {}
local function try(name, ...)
  local answer = redis.pcall(name, ...)
  -- Any other error, as of a server that is full, is told elsewhere.
  local why = type(answer) == 'table' and answer.err or ''
  -- "can't run" up to Redis 7.0; "ACL failure" since, and in Valkey.
  local is_denied = string.find(why, 'NOPERM') or string.find(why, "can't run") or string.find(why, 'ACL failure')
  if is_denied or string.find(why, 'nknown') then
    table.insert(missing, name)
  end
  return answer
end
redis.pcall('UNLINK', key)
try('ZADD', key, 1, 'a')
try('ZCARD', key)
try('ZRANGE', key, 0, 0, 'WITHSCORES')
try('ZREVRANGE', key, 0, 0, 'WITHSCORES')
try('ZRANGEBYSCORE', key, '(0', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
try('ZREMRANGEBYSCORE', key, '-inf', 1)
try('PTTL', key)
local time = try('TIME')
redis.pcall('UNLINK', key)
redis.pcall('PEXPIRE', key, 1000)
local now = time.err and '' or string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
return { now, missing }
