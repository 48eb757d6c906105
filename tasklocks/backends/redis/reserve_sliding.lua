-- Never more than the limit in any window, as in `tasklocks.counters`; one rate. ARGV from the fourth on: limit with a
-- hair, period, and what part of it is counted as one moment.
-- Of the starts that are kept only the first ones are read, until enough of them are out of the window, and the last.
local counted, write = plain('sliding')
if not counted then
  return {2}
end
local limit, period, moment = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local starts = string.sub(counted, 2, -2)
-- Three numbers are shorter than that.
local tail = math.max(1, #starts - 99)
local at, first, newest, total = string.match(string.sub(starts, tail), '()%[([^,%[]+),([^,]+),([^,]+)%]$')
newest, total = tonumber(newest or now), tonumber(total or 0)

local start, over = math.max(now, newest), total + cost - limit
local from, enough = 1, over <= 0
for position, last, past in string.gmatch(starts, '()%[[^,]+,([^,]+),([^%]]+)%]') do
  local live = tonumber(last) > now - period
  if not live then
    -- The newest of those that are over stays, for what it says of all before it.
    from = position
  end
  if not enough and tonumber(past) >= over then
    start, enough = math.max(start, tonumber(last) + period), true
  end
  if live and enough then
    break
  end
end
if too_late(start) then
  return {0, digits(start - now)}
end

if at and start - tonumber(first) < moment then
  starts = string.sub(starts, from, tail + at - 2)
else
  first = digits(start)
  starts = string.sub(starts, from) .. (at and ',' or '')
end
write('[' .. starts .. '[' .. first .. ',' .. digits(start) .. ',' .. digits(total + cost) .. ']]', start + period)
return {1, digits(start), digits(now)}
