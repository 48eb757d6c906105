-- A quota for each stretch of the period's length since 1970, as in `tasklocks.counters`; one rate, and no calendar.
-- ARGV from the fourth on: limit, period.
local counted, write = plain('fixed')
if not counted then
  return {2}
end
local limit, period = tonumber(ARGV[4]), tonumber(ARGV[5])
local used, newest = {}, now
for begin, taken, last in string.gmatch(counted, '%[([^,%[]+),([^,]+),([^%]]+)%]') do
  begin = tonumber(begin)
  newest = math.max(newest, begin)
  if begin + period > now then
    used[#used + 1] = {begin, tonumber(taken), tonumber(last)}
  end
end

local function window(moment)
  return math.floor(moment / period) * period
end

local function taken(begin)
  for _, each in ipairs(used) do
    if each[1] == begin then
      return each[2]
    end
  end
  return 0
end

local begin = window(newest)
while taken(begin) + cost > limit do
  begin = window(begin + period)
end
local start = math.max(now, begin)
if too_late(start) then
  return {0, digits(start - now)}
end

local last = used[#used]
if last and last[1] == begin then
  last[2], last[3] = last[2] + cost, math.max(last[3], start)
else
  used[#used + 1] = {begin, cost, start}
end
local written = {}
for index, each in ipairs(used) do
  written[index] = '[' .. digits(each[1]) .. ',' .. digits(each[2]) .. ',' .. digits(each[3]) .. ']'
end
write('[' .. table.concat(written, ',') .. ']', begin + period)
return {1, digits(start), digits(now)}
