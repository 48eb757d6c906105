local owner, keep = ARGV[1], tonumber(ARGV[2])

drop()
leave(LISTENING, owner)
local mine = lease_of(owner)
local ended = mine and not mine.closed
if ended then
  local held = (now - mine.since) / 1000000
  hold = hold and hold + HOLD_WEIGHT * (held - hold) or held
  redis.call('HSET', meta, 'hold', string.format('%.6f', hold))
  if keep > 0 then
    mine.closed = true
    write_lease(owner, mine)
    extend(owner, keep)
  else
    forget_lease(owner)
  end
end
serve('')
return ended and 1 or 0
