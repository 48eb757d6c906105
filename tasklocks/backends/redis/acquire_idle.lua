local owner, permits, wanted, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local info, ticket, lasts, address = ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[8]

local changed = capacity ~= wanted
local was = changed and capacity or 0
capacity = wanted
-- Nobody holds or waits: the usual case.
if lease_count == 0 and not crowded and permits <= capacity then
  weigh(-extra)
  grant(owner, permits, ttl, info)
  return {1, permits, token, now, now + ttl, was}
end
