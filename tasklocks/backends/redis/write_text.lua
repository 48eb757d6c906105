-- Compare and set, all keys or none. ARGV: milliseconds to keep them, then for each key the text as it was read and the
-- new one.
for index, key in ipairs(KEYS) do
  if (redis.call('GET', key) or '') ~= ARGV[2 * index] then
    return 0
  end
end
for index, key in ipairs(KEYS) do
  redis.call('SET', key, ARGV[2 * index + 1], 'PX', ARGV[1])
end
return 1
