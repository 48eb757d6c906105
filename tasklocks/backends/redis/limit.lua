-- A limit is six keys with one hash tag. Times are microseconds of the server's clock.
--   meta         hash: capacity, token (the last one), extra (permits of leases beyond one each), hold, seat (the last
--                one), kept (when all of this is forgotten), and a row for each lease and each place
--   leases       owners, by the end of their lease
--   line         listening waiters, by seat; `lapses` has them by the end of their place
--   away         waiters that come back by themselves, by seat; `away_lapses` likewise
local meta, leases, line, lapses, away, away_lapses = unpack(KEYS)
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local known = redis.call('HMGET', meta, 'capacity', 'token', 'extra', 'hold', 'kept')
local capacity, token, extra = tonumber(known[1]) or 0, tonumber(known[2]) or 0, tonumber(known[3]) or 0
local hold, kept = tonumber(known[4]), tonumber(known[5]) or 0

-- Lua's own conversion keeps 14 digits, a time has 16.
local function text(number)
  return string.format('%.0f', number)
end

local function outlive(moment, ...)
  if moment + RETENTION > kept then
    -- Later than needed, so that this is rare.
    kept = moment + 1.5 * RETENTION
    redis.call('HSET', meta, 'kept', text(kept))
    redis.call('PEXPIREAT', meta, text(kept / 1000))
  end
  for _, key in ipairs({...}) do
    redis.call('PEXPIREAT', key, text(kept / 1000))
  end
end

local function lease_of(owner)
  local ends = redis.call('ZSCORE', leases, owner)
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

local function write_lease(owner, lease)
  local closed = lease.closed and '1' or '0'
  local numbers = closed .. ' ' .. text(lease.permits) .. ' ' .. text(lease.token) .. ' ' .. text(lease.since)
  redis.call('HSET', meta, 'lease ' .. owner, numbers .. ' ' .. lease.info)
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
  extra = extra + permits - 1
  redis.call('HSET', meta, 'token', text(token), 'extra', text(extra))
  write_lease(owner, {permits = permits, token = token, since = now, info = info})
  extend(owner, ttl)
end

local function forget_lease(owner)
  local lease = lease_of(owner)
  redis.call('ZREM', leases, owner)
  redis.call('HDEL', meta, 'lease ' .. owner)
  if lease and lease.permits > 1 then
    extra = extra - (lease.permits - 1)
    redis.call('HSET', meta, 'extra', text(extra))
  end
end

local function free_permits()
  local count = redis.call('ZCARD', leases)
  if count == 0 then
    extra = 0
  end
  return capacity - count - extra
end

local LISTENING, AWAY = {line, lapses, 'listening '}, {away, away_lapses, 'away '}

local function leave(where, ticket)
  if redis.call('ZREM', where[1], ticket) == 1 then
    redis.call('ZREM', where[2], ticket)
    redis.call('HDEL', meta, where[3] .. ticket)
  end
end

local function place_of(where, ticket)
  local row = redis.call('HGET', meta, where[3] .. ticket) or ''
  local permits, ttl, since, address, info = string.match(row, '^(%d+) (%d+) (%d+) (%S*) (.*)$')
  return {
    permits = tonumber(permits) or 1, ttl = tonumber(ttl) or 0, since = tonumber(since) or now,
    address = address or '', info = info or '',
  }
end

local function take_place(where, ticket, place, lasts)
  if redis.call('ZSCORE', where[1], ticket) then
    place.since = place_of(where, ticket).since
  else
    redis.call('ZADD', where[1], redis.call('HINCRBY', meta, 'seat', 1), ticket)
    place.since = now
  end
  local numbers = text(place.permits) .. ' ' .. text(place.ttl) .. ' ' .. text(place.since)
  redis.call('HSET', meta, where[3] .. ticket, numbers .. ' ' .. place.address .. ' ' .. place.info)
  redis.call('ZADD', where[2], text(now + lasts), ticket)
  outlive(now + lasts, where[1], where[2])
end

-- Drop what is over.
local function drop()
  for _, owner in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', text(now))) do
    forget_lease(owner)
  end
  if redis.call('EXISTS', lapses, away_lapses) == 0 then
    return
  end
  for _, where in ipairs({LISTENING, AWAY}) do
    for _, ticket in ipairs(redis.call('ZRANGEBYSCORE', where[2], '-inf', text(now))) do
      leave(where, ticket)
    end
  end
end

local function tell(owner, place, ttl)
  local numbers = text(next_token()) .. ' ' .. text(now + ttl) .. ' ' .. text(place.permits)
  return redis.call('PUBLISH', place.address, numbers .. ' ' .. #owner .. ' ' .. owner .. meta) > 0
end

-- Grant to the head of the line until it does not fit; return whether a waiter is in front of a newcomer.
-- Whose process nobody hears is passed over, but stays: it may be about to listen again, and asks by itself then.
local function serve(asker)
  local passed = 0
  local free = free_permits()
  while free > 0 and passed < DEAF_AT_MOST do
    local owner = redis.call('ZRANGE', line, passed, passed)[1]
    if not owner then
      return false
    end
    local place = place_of(LISTENING, owner)
    if place.permits > free then
      return true
    end
    local ttl = math.min(place.ttl, GRANT_TTL)
    if owner == asker or tell(owner, place, ttl) then
      leave(LISTENING, owner)
      grant(owner, place.permits, ttl, place.info)
      free = free - place.permits
    else
      passed = passed + 1
    end
  end
  return true
end

-- Oldest first; of more than a few hundred, those that end first.
local function holders(most)
  local found = {}
  local ends = redis.call('ZRANGEBYSCORE', leases, '(' .. text(now), '+inf', 'LIMIT', 0, math.max(most, 256))
  for _, owner in ipairs(ends) do
    local lease = lease_of(owner)
    if lease then
      lease.owner = owner
      table.insert(found, lease)
    end
  end
  table.sort(found, function(one, other) return one.token < other.token end)
  local rows = {}
  for index = 1, math.min(#found, most) do
    local lease = found[index]
    table.insert(rows, {lease.owner, lease.permits, lease.token, lease.since, lease.ends, lease.info})
  end
  return rows
end
