-- Some of the keys that the server has, in its own order, with what they hold. ARGV: cursor, how many keys to look at,
-- pattern. The server hands over a bounded number at a time, so others wait for a page at the most, never for all.
local found = redis.call('SCAN', ARGV[1], 'COUNT', ARGV[2], 'MATCH', ARGV[3])
local limits, texts = {}, {}
for _, key in ipairs(found[2]) do
  local root = string.match(key, '^(.*):meta$')
  if root then
    local keys = {key}
    for _, part in ipairs({'leases', 'line', 'lapses', 'away', 'away_lapses'}) do
      table.insert(keys, root .. ':' .. part)
    end
    table.insert(limits, {root, state_of(keys)})
  else
    table.insert(texts, {string.match(key, '^(.*):text$'), redis.call('GET', key) or ''})
  end
end
return {found[1], limits, texts}
