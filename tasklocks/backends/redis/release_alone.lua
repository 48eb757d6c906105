local owner, keep = ARGV[1], tonumber(ARGV[2])

-- Its own lease is the only one, and nobody waits: the usual case.
if lease_count == 1 and not crowded then
  local mine = lease_of(owner)
  if mine and mine.ends > now then
    return end_lease(owner, mine, keep)
  end
end
