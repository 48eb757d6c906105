-- A lock and starts at rates, all or none. KEYS: the lock's six, then the text of each rate. ARGV: within how many seconds
-- the start must be for a lease, how many arguments the lock has, these, and for each rate the way in which it counts,
-- how many arguments that has, and these.
-- Answers: {0, busy}: the lock's busy answer; {1, number, wait}: that rate refuses, counted from 0; {2}: a rate is no plain
-- case, nothing was done; {3, lease, start, now, start, now …}: the lease is {2} if there is none yet.
local ways = {gcra = gcra, fixed = fixed, sliding = sliding, given = given}
local position = 2

local function next_arguments()
  local count = tonumber(ARGV[position])
  local some = {unpack(ARGV, position + 1, position + count)}
  position = position + count + 1
  return some
end

local about_lock = next_arguments()
local writes, taken, latest, refused = {}, {3, {2}}, -math.huge, nil

local function put(...)
  writes[#writes + 1] = {...}
end

for index = 7, #KEYS do
  position = position + 1
  local answer = ways[ARGV[position - 1]]({KEYS[index]}, next_arguments(), put)
  if answer[1] == 2 then
    return {2}
  elseif answer[1] == 0 then
    refused = refused or {1, index - 7, answer[2]}
  else
    taken[#taken + 1], taken[#taken + 2] = answer[2], answer[3]
    latest = math.max(latest, tonumber(answer[2]) - tonumber(answer[3]))
  end
end

-- Asked when the permits are free: only then is anything written.
local function begins()
  if refused then
    return false
  end
  for _, write in ipairs(writes) do
    redis.call('SET', unpack(write))
  end
  return latest <= tonumber(ARGV[1])
end

local lock = acquire({unpack(KEYS, 1, 6)}, about_lock, begins)
if lock[1] == 0 then
  return {0, lock}
end
taken[2] = lock
return refused or taken
