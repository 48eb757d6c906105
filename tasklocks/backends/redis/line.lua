local LISTENING, AWAY = {line, lapses, 'listening '}, {away, away_lapses, 'away '}

local function free_permits()
  if lease_count == 0 then
    weigh(-extra)
  elseif not known[1] then
    -- Something threw `meta` away, but not the leases: nobody knows what they cover, so nothing is free.
    weigh(capacity)
  end
  return capacity - lease_count - extra
end

local function leave(where, ticket)
  if crowded and redis.call('ZREM', where[1], ticket) == 1 then
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
    redis.call('ZADD', where[1], text(place.since), ticket)
  end
  local numbers = text(place.permits) .. ' ' .. text(place.ttl) .. ' ' .. text(place.since)
  redis.call('HSET', meta, where[3] .. ticket, numbers .. ' ' .. place.address .. ' ' .. place.info)
  redis.call('ZADD', where[2], text(now + lasts), ticket)
  outlive(now + lasts, where[1])
  outlive(now + lasts, where[2])
end

-- Drop what is over.
local function drop()
  for _, owner in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', text(now))) do
    forget_lease(owner, lease_of(owner))
  end
  if not crowded then
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
  while crowded and free > 0 and passed < DEAF_AT_MOST do
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
  return crowded
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
