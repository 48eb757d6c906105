-- A lease of one permit that nobody waits for, given back for good: as `end_lease` does it.
local owner = ARGV[1]
if not crowded and ARGV[2] == '0' then
  local known = redis.call('HMGET', meta, 'hold', 'lease ' .. owner)
  local since = known[2] and string.match(known[2], '^0 1 %d+ (%d+) ')
  if since and tonumber(redis.call('ZSCORE', leases, owner) or 0) > now then
    redis.call('ZREM', leases, owner)
    redis.call('HDEL', meta, 'lease ' .. owner)
    redis.call('HSET', meta, 'hold', hold_after(tonumber(since), tonumber(known[1])))
    return 1
  end
end
