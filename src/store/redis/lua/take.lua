-- Takes a lease that nobody has: 1 taken, 4 taken, and the cell has nothing, 5 taken, and the cell may not be looked at, its
-- token if it is somebody else's, 2 what is fetched, or was fetched last, is for nobody else, 3 the same instance has it,
-- which its token begins with: for a lead that is waited for no longer and goes on, or for an attempt whose answer was
-- lost. Neither is waited for, nor robbed of it. With this very token it is taken once more. In place of all these, the
-- failure of the service, if there is one that can be borne and it is not time yet to try again, or somebody is at it.
-- KEYS: the lease, the failure, and the cell, if it is to be looked at. ARGV: token, lifetime in ms, the start of all tokens
-- of this instance, what failures begin with that can be borne, the time in ms.
local held = redis.call('GET', KEYS[1])
local failing = ARGV[4] ~= '' and redis.call('GET', KEYS[2])
if failing and failing ~= '' and string.find(ARGV[4], string.sub(failing, 1, 1), 1, true) then
  local till = tonumber(string.sub(failing, 2))
  if till and (held or till > tonumber(ARGV[5])) then return { failing } end
end
if held and held ~= ARGV[1] then
  if string.sub(held, 1, #ARGV[3]) == ARGV[3] then return 3 end
  if string.sub(held, 1, 1) == '-' then return 2 end
  return held
end
local taken = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if taken.err then return taken end
if not KEYS[3] then return 1 end
local there = redis.pcall('EXISTS', KEYS[3])
if there == 0 then return 4 end
if type(there) == 'table' then return 5 end
return 1
