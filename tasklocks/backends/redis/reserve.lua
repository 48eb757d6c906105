-- Even pacing (the generic cell rate algorithm), as in `tasklocks.counters`, in one round trip.
-- ARGV: cost, longest wait (-1: any), seconds to keep beyond the last start, then for each pace the seconds of one unit
-- and the burst (-1: none).
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local cost, longest, retention = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local counted, paused_until, shifts, late = {}, 0, {}, nil
local text = redis.call('GET', KEYS[1])
if text then
  counted, paused_until, shifts, late = unpack(cjson.decode(text))
end

local start = math.max(now, paused_until)
local arrivals = {}
for index = 1, (#ARGV - 3) / 2 do
  local unit, burst = tonumber(ARGV[2 + 2 * index]), tonumber(ARGV[3 + 2 * index])
  local arrival = type(counted[index]) == 'number' and counted[index] or 0
  local credit = burst < 0 and 0 or burst - cost
  arrivals[index] = {arrival, unit}
  start = math.max(start, arrival - credit * unit)
end
if longest >= 0 and start - now > longest then
  return {0, string.format('%.6f', start - now)}
end

local last = start
local written = {}
for index, each in ipairs(arrivals) do
  local arrival = math.max(each[1], start) + cost * each[2]
  written[index] = string.format('%.6f', arrival)
  last = math.max(last, arrival)
end
local moved = {}
for index, each in ipairs(shifts) do
  moved[index] = string.format('[%.6f,%.6f]', each[1], each[2])
end
local behind = {}
for index, each in ipairs(late or {}) do
  behind[index] = type(each) == 'number' and string.format('%.6f', each) or '0'
end
text = string.format(
  '[[%s],%.6f,[%s],[%s]]',
  table.concat(written, ','), paused_until, table.concat(moved, ','), table.concat(behind, ',')
)
redis.call('SET', KEYS[1], text, 'PX', string.format('%.0f', (last - now + retention) * 1000))
return {1, string.format('%.6f', start), string.format('%.6f', now), string.format('%.6f', start - now)}
