-- A limit is six keys with one hash tag. Times are microseconds of the server's clock.
--   meta         hash: capacity, token (the last one), extra (permits of leases beyond one each), hold, kept (when all of
--                this is forgotten), and a row for each lease and each place
--   leases       owners, by the end of their lease
--   line         listening waiters, by the time since which they wait; `lapses` has them by the end of their place
--   away         waiters that come back by themselves; `away_lapses` likewise
--
-- This part comes first in every step, and the usual case of a step next: nobody waits, and what is wanted is free. It
-- returns early, for Lua makes a function when it comes to it, and the functions that follow, with the reading that
-- they need, cost as much as all else that such a step does.
local meta, leases, line, lapses, away, away_lapses = unpack(KEYS)
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local lease_count = redis.call('ZCARD', leases)
local crowded = redis.call('EXISTS', lapses, away_lapses) > 0
local format = string.format

-- How long permits of this limit are usually held, now that one is given back.
local function hold_after(since, hold)
  local held = math.max(now - since, 0) / 1000000
  hold = hold and hold + (held > hold and HOLD_WEIGHT or SHORTER_HOLD_WEIGHT) * (held - hold) or held
  return format('%.6f', hold)
end
