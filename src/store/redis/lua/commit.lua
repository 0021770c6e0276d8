-- Writes cells under a lease, and gives it back: 1 written, 0 the lease is lost and nothing is written, 2 written, and
-- those who wait may not be told, 3 written, and they are told.
-- KEYS: the lease, the failure of the service, whether somebody waits elsewhere, the cells. ARGV: token, a channel or
-- nothing, what to say there, for how many ms the others need not wait for each other if the lease was yielded, '1' if the
-- last cell must be there already; for each cell its value and its lifetime in ms.
local yielded = '-' .. ARGV[1]
local held = redis.call('GET', KEYS[1])
if held ~= ARGV[1] and held ~= yielded then return 0 end
if ARGV[5] == '1' and redis.call('GETRANGE', KEYS[#KEYS], 0, 0) == '' then return 0 end
for n = 4, #KEYS do
  local written = redis.pcall('SET', KEYS[n], ARGV[2 * n - 2], 'PX', ARGV[2 * n - 1])
  if written.err then return written end
end
if held == yielded and not redis.pcall('SET', KEYS[1], '-', 'PX', ARGV[4]).err then
  redis.call('UNLINK', KEYS[2])
else
  redis.call('UNLINK', KEYS[1], KEYS[2])
end
if ARGV[2] == '' or not redis.call('GET', KEYS[3]) then return 1 end
return type(redis.pcall('PUBLISH', ARGV[2], ARGV[3])) == 'table' and 2 or 3
