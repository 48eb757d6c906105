local permits = tonumber(ARGV[2])
local info, ticket, lasts, address, since = ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[8], tonumber(ARGV[9])
local listening, waits = address ~= '', lasts > 0

local changed = capacity ~= tonumber(wanted)
local was = changed and capacity or 0
capacity = tonumber(wanted)
drop()
if changed then
  redis.call('HSET', meta, 'capacity', text(capacity))
end
local stopped = serve(listening and ticket or '')

-- Does anybody listen in front of the asker? Whose place is kept in line is served from there.
local function is_behind()
  local head = redis.call('ZRANGE', line, 0, 0, 'WITHSCORES')
  return since == 0 or not head[2] or tonumber(head[2]) <= since or redis.call('ZSCORE', line, owner)
end

local mine = lease_of(owner)
if mine and not mine.closed then
  if begins then
    begins()
  end
  extend(owner, ttl)
  return {1, mine.permits, mine.token, now, now + ttl, was}
end
if not mine and not (stopped and is_behind()) and permits <= free_permits() then
  if waits then
    leave(AWAY, ticket)
  end
  if begins and not begins() then
    return {2}
  end
  grant(owner, permits, ttl, info)
  return {1, permits, token, now, now + ttl, was}
end

local ahead
if waits then
  local where = listening and LISTENING or AWAY
  since = since > 0 and math.min(since, now) or now
  take_place(where, ticket, {permits = permits, ttl = ttl, address = address, info = info, since = since}, lasts)
  ahead = redis.call('ZRANK', where[1], ticket) + (listening and 0 or redis.call('ZCARD', line))
else
  ahead = redis.call('ZCARD', line) + redis.call('ZCARD', away)
end
local first = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')[2]
return {0, first and tonumber(first) or 0, ahead, capacity, hold and tostring(hold) or '', now, was, holders(HOLDERS_SHOWN)}
