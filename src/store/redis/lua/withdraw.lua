-- Ceases to tell of a fetch for which nobody waits elsewhere, nor reads it: 1 so it is, 0 somebody does.
-- KEYS: what is told, whether somebody waits elsewhere.
if redis.call('GET', KEYS[2]) then return 0 end
redis.call('UNLINK', KEYS[1])
return 1
