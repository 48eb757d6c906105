-- One permit, of a limit whose capacity is what it was: as `grant` does it.
local owner, wanted, ttl = ARGV[1], ARGV[3], tonumber(ARGV[4])
if not crowded and ARGV[2] == '1' then
  local known = redis.call('HMGET', meta, 'capacity', 'token', 'extra', 'kept', 'lease ' .. owner)
  local extra, kept = tonumber(known[3]) or 0, tonumber(known[4]) or 0
  local sure = known[1] == wanted and not known[5] and (extra == 0 or lease_count > 0)
  if sure and lease_count + extra < tonumber(wanted) and now + ttl + RETENTION <= kept then
    if begins and not begins() then
      return {2}
    end
    local token = math.max(tonumber(known[2]) + 1, now)
    local row = format('0 1 %.0f %.0f ', token, now) .. ARGV[5]
    redis.call('HSET', meta, 'token', format('%.0f', token), 'lease ' .. owner, row)
    redis.call('ZADD', leases, format('%.0f', now + ttl), owner)
    redis.call('PEXPIREAT', leases, format('%.0f', kept / 1000))
    return {1, 1, token, now, now + ttl, 0}
  end
end
