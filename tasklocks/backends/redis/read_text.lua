-- All keys' texts, and the time.
local time = redis.call('TIME')
local texts = {}
for index, key in ipairs(KEYS) do
  texts[index] = redis.call('GET', key) or ''
end
return {texts, time[1], time[2]}
