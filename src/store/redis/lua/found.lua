-- What both scripts of the purge clock begin with: the ends of the sorted set, and whether it is no clock at all.
local clock, top, bottom, is_junk = KEYS[1], redis.pcall('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES'), {}, false
if top.err and not string.find(top.err, '^WRONGTYPE') then return top end
if top.err then
  is_junk = true
elseif top[1] then
  bottom = redis.call('ZRANGE', clock, 0, 0, 'WITHSCORES')
  local is_floor = string.find(bottom[1], '^f:' .. string.rep('%x', 16)) and tonumber(bottom[2]) >= 0
  is_junk = not is_floor or tonumber(top[2]) >= 2 ^ 53
end
