-- Even pacing (the generic cell rate algorithm), as in `tasklocks.counters`.
-- ARGV from the fourth on, for each rate: the seconds of one unit, and the burst (-1: none).
local counted, write = plain('gcra')
if not counted then
  return {2}
end
local start, arrivals = now, {}
local kept = string.gmatch(counted, '[^,]+')
for index = 4, #ARGV, 2 do
  local unit, burst = tonumber(ARGV[index]), tonumber(ARGV[index + 1])
  local arrival = tonumber(kept() or 0)
  start = math.max(start, arrival - (burst < 0 and 0 or burst - cost) * unit)
  arrivals[#arrivals + 1] = {arrival, unit, math.max(burst, 0)}
end
if too_late(start) then
  return {0, digits(start - now)}
end
local over = 0
for index, each in ipairs(arrivals) do
  local begin, share = math.max(each[1], start), cost * each[2]
  local arrival = begin + share
  if arrival - begin < share then
    -- Rounded up, never down: what each start gained by that would add up to starts too many.
    arrival = arrival * (1 + 2 ^ -52)
  end
  over = math.max(over, arrival + each[3] * each[2])
  arrivals[index] = digits(arrival)
end
write(table.concat(arrivals, ','), over)
return {1, digits(start), digits(now)}
