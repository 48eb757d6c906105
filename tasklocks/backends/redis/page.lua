-- Some of the keys that the server has, in its own order, with what they hold. ARGV: cursor, how many keys to look at,
-- pattern. The server hands over a bounded number at a time, so others wait for a page at the most, never for all.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local later = string.format('(%.0f', now)

-- Of a limit that nobody waits for, which is nearly every one: as `state_of`, at a quarter of its cost.
local function calm_state(meta, leases)
  local known = redis.call('HMGET', meta, 'capacity', 'hold')
  local ends = redis.call('ZRANGEBYSCORE', leases, later, '+inf', 'WITHSCORES')
  local rows = {}
  for index = 1, #ends, 2 do
    local row = redis.call('HGET', meta, 'lease ' .. ends[index]) or ''
    local permits, token, since, info = string.match(row, '^%d (%d+) (%d+) (%d+) (.*)$')
    if permits then
      rows[#rows + 1] = {
        ends[index], tonumber(permits), tonumber(token), tonumber(since), tonumber(ends[index + 1]), info,
      }
    end
  end
  table.sort(rows, function(one, other) return one[3] < other[3] end)
  return {tonumber(known[1]) or 0, known[2] or '', now, rows, {}}
end

local found = redis.call('SCAN', ARGV[1], 'COUNT', ARGV[2], 'MATCH', ARGV[3])
local limits, texts = {}, {}
for _, key in ipairs(found[2]) do
  local root, part = string.match(key, '^(.*):(%a+)$')
  if part == 'text' then
    texts[#texts + 1] = {root, redis.call('GET', key) or ''}
  else
    local leases, lapses, away_lapses = root .. ':leases', root .. ':lapses', root .. ':away_lapses'
    if redis.call('EXISTS', lapses, away_lapses) == 0 then
      limits[#limits + 1] = {root, calm_state(key, leases)}
    else
      local keys = {key, leases, root .. ':line', lapses, root .. ':away', away_lapses}
      limits[#limits + 1] = {root, state_of(keys)}
    end
  end
end
return {found[1], limits, texts}
