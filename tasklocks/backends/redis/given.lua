-- A start that the caller has reckoned, for what the other scripts cannot: compare and set.
-- KEYS[1]: the state's text. ARGV: the text as it was read, the new one, milliseconds to keep it, then the start, or an
-- empty text and the wait that is too long. Answers as those scripts do; {2}: somebody was faster.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return {2}
end
if ARGV[4] == '' then
  return {0, ARGV[5]}
end
put(KEYS[1], ARGV[2], 'PX', ARGV[3])
local time = redis.call('TIME')
return {1, ARGV[4], string.format('%.17g', tonumber(time[1]) + tonumber(time[2]) / 1000000)}
