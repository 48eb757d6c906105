local keep = tonumber(ARGV[2])

drop()
leave(LISTENING, owner)
local ended = end_lease(owner, lease_of(owner), keep)
serve('')
return ended
