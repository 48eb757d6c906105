local owner, ttl = ARGV[1], tonumber(ARGV[2])

drop()
serve('')
local mine = lease_of(owner)
if not mine or mine.closed then
  return {}
end
extend(owner, ttl)
return {mine.permits, mine.token, now, now + ttl}
