local known = redis.call('HMGET', meta, 'capacity', 'token', 'extra', 'hold', 'kept')
local capacity, token, extra = tonumber(known[1]) or 0, tonumber(known[2]) or 0, tonumber(known[3]) or 0
local hold, kept = tonumber(known[4]), tonumber(known[5]) or 0

-- Lua's own conversion keeps 14 digits, a time has 16.
local function text(number)
  return format('%.0f', number)
end

local function outlive(moment, key)
  if moment + RETENTION > kept then
    -- Later than needed, so that this is rare.
    kept = moment + 1.5 * RETENTION
    redis.call('HSET', meta, 'kept', text(kept))
    redis.call('PEXPIREAT', meta, text(kept / 1000))
  end
  redis.call('PEXPIREAT', key, text(kept / 1000))
end

local function weigh(change)
  if change ~= 0 then
    extra = extra + change
    redis.call('HSET', meta, 'extra', text(extra))
  end
end

local function lease_of(owner)
  local ends = lease_count > 0 and redis.call('ZSCORE', leases, owner)
  local row = ends and redis.call('HGET', meta, 'lease ' .. owner)
  if not row then
    return nil
  end
  local closed, permits, own_token, since, info = string.match(row, '^(%d) (%d+) (%d+) (%d+) (.*)$')
  return {
    closed = closed == '1', permits = tonumber(permits), token = tonumber(own_token), since = tonumber(since),
    info = info, ends = tonumber(ends),
  }
end

local function row_of(closed, permits, own_token, since, info)
  return closed .. ' ' .. text(permits) .. ' ' .. text(own_token) .. ' ' .. text(since) .. ' ' .. info
end

local function extend(owner, ttl)
  redis.call('ZADD', leases, text(now + ttl), owner)
  outlive(now + ttl, leases)
end

local function next_token()
  -- Not only one more: a server that lost its data has lost the last token, too.
  return math.max(token + 1, now)
end

local function grant(owner, permits, ttl, info)
  token = next_token()
  lease_count = lease_count + 1
  redis.call(
    'HSET', meta, 'capacity', text(capacity), 'token', text(token),
    'lease ' .. owner, row_of('0', permits, token, now, info)
  )
  weigh(permits - 1)
  extend(owner, ttl)
end

local function forget_lease(owner, lease)
  lease_count = lease_count - redis.call('ZREM', leases, owner)
  redis.call('HDEL', meta, 'lease ' .. owner)
  weigh(1 - (lease and lease.permits or 1))
end

-- Return whether a lease was ended.
local function end_lease(owner, lease, keep)
  if not lease or lease.closed then
    return 0
  end
  if keep > 0 then
    redis.call('HSET', meta, 'lease ' .. owner, row_of('1', lease.permits, lease.token, lease.since, lease.info))
    extend(owner, keep)
  else
    forget_lease(owner, lease)
  end
  -- Last, for a server whose memory is full lets a script write more only if what it did first needs none.
  redis.call('HSET', meta, 'hold', hold_after(lease.since, hold))
  return 1
end
