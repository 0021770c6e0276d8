-- Ceases to tell of a fetch that nobody reads elsewhere: 1 so it is, 0 somebody does.
-- KEYS: what is told, whether somebody reads it.
if redis.call('GETRANGE', KEYS[2], 0, 0) ~= '' then return 0 end
redis.call('UNLINK', KEYS[1])
return 1
