-- The state of a rate limit as `tasklocks.rates` writes it, for the scripts that reserve a start in one round trip.
-- KEYS[1]: its text. ARGV: cost, longest wait (-1: any), seconds to keep beyond the last start, then what the rates say.
-- Answers: {1, start, now}: reserved; {0, wait}: nothing is; {2}: not a plain case (a pause, another algorithm), so that
-- the caller reads the text, reckons by itself and sets it if nobody was faster. Seconds since the epoch, as texts of all
-- digits that a number has: with fewer, many small steps would add up to a wrong rate.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local cost, longest, retention = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local PLAIN = '^%[([^,]+),(%b[]),(%b[]),%[%],([^,]+),"(%l+)",%[(.*)%]%]$'

local function digits(number)
  return string.format('%.17g', number)
end

-- Return what was counted as text, and a function that writes it; nothing if it is not a plain case.
local function plain(algorithm)
  local text = redis.call('GET', KEYS[1])
  local paused, shifts, late, ends, kind, counted = '0', '[]', '[]', 0, algorithm, ''
  if text then
    paused, shifts, late, ends, kind, counted = string.match(text, PLAIN)
  end
  if kind ~= algorithm or tonumber(paused) > now then
    return nil
  end
  if shifts ~= '[]' and tonumber(string.match(shifts, '%[([^,%[]+),[^,]+,[^,]+%]%]$')) >= now then
    return nil  -- the clock was set back
  end
  return counted, function(new, over)
    over = math.max(over, tonumber(ends))
    put(
      KEYS[1],
      '[' .. paused .. ',' .. shifts .. ',' .. late .. ',[],' .. digits(over) .. ',"' .. algorithm .. '",[' .. new .. ']]',
      'PX', string.format('%.0f', (math.max(over, now) - now + retention) * 1000)
    )
  end
end

local function too_late(start)
  return longest >= 0 and start - now > longest
end
